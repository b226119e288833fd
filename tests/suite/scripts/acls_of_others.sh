# What another user may do by an ACL, and what he keeps when he sets one: the same on every file system that has them.
others() { setpriv --reuid 65534 --regid 65534 "$@"; }
may() { if others "${groups[@]}" bash -c "$1" 2> /dev/null > /dev/null; then echo "may $1"; else echo "may not $1"; fi; }
groups=(--clear-groups)

chmod 755 .
echo x > f
mkdir d
echo y > d/f
chmod 600 f
chmod 700 d
may 'cat f'
setfacl -m u:65534:r f
may 'cat f'
may 'echo >> f'
setfacl -m u:65534:rw f
may 'echo >> f'
chmod g-w f
may 'echo >> f'
may 'cat f'
setfacl -m u:65534:- f
chmod o+r f
may 'cat f'
setfacl -x u:65534 f
may 'cat f'
chmod o-r f
may 'cat f'
setfacl -m g:60:r f
may 'cat f'
groups=(--groups 60)
may 'cat f'
setfacl -m m::- f
may 'cat f'
setfacl -b f
may 'cat f'

groups=(--clear-groups)
may 'cat d/f'
setfacl -m u:65534:x d
may 'cat d/f'
may 'ls d'
setfacl -m u:65534:rwx d
may 'ls d'
may 'echo > d/his'
setfacl -m d:u:65534:rw,d:u::rw,d:g::-,d:o::- d
echo z > d/inherits
(umask 077 && echo z > d/inherits-077 && mkdir d/below && echo z > d/below/f)
may 'echo >> d/inherits'
may 'echo >> d/inherits-077'
may 'cat d/below/f'
setfacl -m u:65534:rwx d/below
may 'cat d/below/f'
may 'umask 077; echo > d/below/his'
may 'setfacl -m u:1:r f'
may 'setfacl -m u:1:r d/below/his'
setfacl -m u:65534:- .
may 'cat d/f'
setfacl -b .
may 'cat d/f'

mkdir group
for who in nobody member primary root default; do
    : > group/$who
    mkdir group/d-$who
    for file in group/$who group/d-$who; do
        chown 65534:60 $file
        chmod 2775 $file
        case $who in
            nobody) others --clear-groups setfacl -m u:1:rx $file ;;
            member) others --groups 1,60,2 setfacl -m u:1:rx $file ;;
            primary) setpriv --reuid 65534 --regid 60 --clear-groups setfacl -m u::rwx,g::rx,o::- $file ;;
            root) setfacl -m u:1:rx $file ;;
            default) [ -f $file ] || others --clear-groups setfacl -m d:u:1:rx $file ;;
        esac
    done
done
find . | LC_ALL=C sort | xargs -d '\n' stat -c '%A %u:%g %n'
find . | LC_ALL=C sort | getfacl -n -
