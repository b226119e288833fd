//! Two plots in one SVG: orphaned work against the rate of publishing, and how long announcements take.

use std::fmt::Write;

use crate::scale::Measured;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 50.0;
/// From the left edge of one plot to that of the next.
const STEP: f64 = WIDTH + 90.0;

/// One pair of axes.
struct Plot<'a> {
    at: f64,
    title: &'a str,
    below: &'a str,
    beside: &'a str,
    /// The ends of the horizontal axis, which is logarithmic.
    across: (f64, f64),
    /// The end of the vertical axis, which begins at 0.
    up: f64,
}

impl Plot<'_> {
    fn x(&self, value: f64) -> f64 {
        let (low, high) = (self.across.0.ln(), self.across.1.ln());
        self.at + (value.max(self.across.0).ln() - low) / (high - low).max(f64::EPSILON) * WIDTH
    }

    fn y(&self, value: f64) -> f64 {
        TOP + HEIGHT - value / self.up * HEIGHT
    }

    fn axes(&self, ticks: &[f64]) -> String {
        let (left, right, bottom) = (self.at, self.at + WIDTH, TOP + HEIGHT);
        let mut out = format!(
            "<text x='{left}' y='{}' font-size='15' font-weight='bold'>{}</text>\n\
             <text x='{}' y='{}' text-anchor='middle'>{}</text>\n\
             <text x='{left}' y='{}' font-size='11'>{}</text>\n",
            TOP - 26.0,
            self.title,
            left + WIDTH / 2.0,
            bottom + 38.0,
            self.below,
            TOP - 8.0,
            self.beside,
        );
        for step in 0..=5 {
            let value = self.up * f64::from(step) / 5.0;
            let y = self.y(value);
            put(&mut out, &format!("<line x1='{left}' y1='{y:.1}' x2='{right}' y2='{y:.1}' stroke='#ddd'/>"));
            let label = number(value);
            put(&mut out, &format!("<text x='{}' y='{:.1}' text-anchor='end'>{label}</text>", left - 6.0, y + 4.0));
        }
        for tick in ticks {
            let x = self.x(*tick);
            put(
                &mut out,
                &format!("<line x1='{x:.1}' y1='{bottom}' x2='{x:.1}' y2='{}' stroke='#444'/>", bottom + 5.0),
            );
            let label = number(*tick);
            put(&mut out, &format!("<text x='{x:.1}' y='{}' text-anchor='middle'>{label}</text>", bottom + 19.0));
        }
        put(&mut out, &format!("<line x1='{left}' y1='{bottom}' x2='{right}' y2='{bottom}' stroke='#444'/>"));
        out
    }

    fn line(&self, points: &[(f64, f64)], colour: &str) -> String {
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", self.x(*x), self.y(*y))).collect();
        format!("<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>\n", path.join(" "))
    }
}

fn put(out: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{line}");
}

/// A number for an axis, as short as it can be.
fn number(value: f64) -> String {
    let text = if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Draws what was measured at several rates, and the delivery times of the first of `all`.
pub fn draw(rates: &[Measured], first: &Measured) -> String {
    let (width, height) = (LEFT + STEP + WIDTH + 40.0, TOP + HEIGHT + 60.0);
    let mut out = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' \
         font-family='sans-serif' font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n"
    );
    out.push_str(&orphans(rates));
    out.push_str(&deliveries(first));
    out.push_str("</svg>\n");
    out
}

fn orphans(rates: &[Measured]) -> String {
    let mut points: Vec<_> = rates.iter().map(|one| (one.of.rate, one.orphan_rate() * 100.0)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let most = points.iter().map(|(_, percent)| *percent).fold(1.0, f64::max);
    let plot = Plot {
        at: LEFT,
        title: "Orphaned work",
        below: "manifests published per second, by all together",
        beside: "% of manifests that are not canonical in the end",
        across: (first.0, last.0),
        up: (most / 5.0).ceil() * 5.0,
    };
    let ticks: Vec<_> = points.iter().map(|(rate, _)| *rate).collect();
    let mut out = plot.axes(&ticks) + &plot.line(&points, "#b0413e");
    for (rate, percent) in &points {
        let (x, y) = (plot.x(*rate), plot.y(*percent));
        put(&mut out, &format!("<circle cx='{x:.1}' cy='{y:.1}' r='3.5' fill='#b0413e'/>"));
    }
    out
}

fn deliveries(of: &Measured) -> String {
    let least = f64::from(of.delivery(1)).max(1.0);
    let most = f64::from(of.delivery(1000)).max(least * 10.0);
    let plot = Plot {
        at: LEFT + STEP,
        title: "Delivery",
        below: "milliseconds from publication to admission",
        beside: "% of all nodes and manifests",
        across: (least, most),
        up: 100.0,
    };
    let ticks: Vec<_> = (0..8).map(|power| 10f64.powi(power)).filter(|tick| (least..=most).contains(tick)).collect();
    let points: Vec<_> = (0..=1000).map(|at| (f64::from(of.delivery(at)), at as f64 / 10.0)).collect();
    plot.axes(&ticks) + &plot.line(&points, "#2a6f97")
}
