"""The ways in which editors save.

    editors.py all           saves a few times in each way, each in a folder of its own, and looks after each save
    editors.py once WAY      saves `note` here, once
"""
import os, shutil, sys, time

def write(path, text, flags=os.O_EXCL, mode=0o666, sync=True):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, mode)
    for part in [text[:7], text[7:]]: os.write(fd, part)
    if sync: os.fsync(fd)
    return fd

def like(fd, path):
    "Gives a new file what an old one has."
    old = os.stat(path)
    os.fchown(fd, old.st_uid, old.st_gid); os.fchmod(fd, old.st_mode & 0o7777)
    for name in os.listxattr(path): os.setxattr(fd, name, os.getxattr(path, name))
    os.close(fd)

def truncating(text):
    "VS Code; nano."
    os.close(write("note", text, os.O_TRUNC))

def shrinking(text):
    "Notepads that write first, and cut what is left."
    fd = write("note", text, 0, sync=False); os.ftruncate(fd, len(text)); os.fdatasync(fd); os.close(fd)

def copy_then_truncate(text):
    "vim with backupcopy=yes; nano -B."
    shutil.copy2("note", "note~"); truncating(text)

def temporary_then_rename(text):
    "gedit and all that use GLib; Kate and all that use QSaveFile."
    like(write(".goutputstream-A1B2C3", text), "note"); os.rename(".goutputstream-A1B2C3", "note")
    here = os.open(".", os.O_RDONLY); os.fsync(here); os.close(here)

def rename_then_new(text):
    "Emacs, whose lock is a symbolic link that leads nowhere; vim with backupcopy=no."
    os.symlink("ada@host.4711:1700000000", ".#note"); assert os.readlink(".#note").startswith("ada@")
    os.rename("note", "note~"); like(write("note", text), "note~"); os.unlink(".#note")

def link_then_rename(text):
    "GLib with a backup; dpkg."
    if os.path.exists("note~"): os.unlink("note~")
    os.link("note", "note~"); like(write("note.new", text, mode=0o600), "note"); os.rename("note.new", "note")

def rename_away_and_back(text):
    "IntelliJ's safe write."
    like(write("note___jb_tmp___", text), "note")
    os.rename("note", "note___jb_old___"); os.rename("note___jb_tmp___", "note"); os.unlink("note___jb_old___")

# The way, whether the file stays the same one, and whether the backup is that of before.
WAYS = {
    "truncating": (truncating, True, None),
    "shrinking": (shrinking, True, None),
    "copy_then_truncate": (copy_then_truncate, True, False),
    "temporary_then_rename": (temporary_then_rename, False, None),
    "rename_then_new": (rename_then_new, False, True),
    "link_then_rename": (link_then_rename, False, True),
    "rename_away_and_back": (rename_away_and_back, False, None),
}

def every_way():
    top = os.getcwd()
    for way, (save, keeps, backup) in WAYS.items():
        os.mkdir(way); os.chdir(way)
        text = b"the first text, which is longer than what comes after it\n" * 9
        os.close(write("note", text)); os.chmod("note", 0o640); os.setxattr("note", "user.tag", b"kept")
        os.utime("note", (1, 1))
        for round in range(3):
            before, old, start = os.stat("note"), text, time.time_ns() - 20_000_000  # the kernel's clock may be a tick late
            text = b"%s, save %d\n" % (way.encode(), round) * (9 - round)
            reader = open("note", "rb")
            save(text)
            after = os.stat("note")
            assert open("note", "rb").read() == text and after.st_size == len(text), way
            assert (after.st_mode, after.st_uid, after.st_nlink) == (0o100640, before.st_uid, 1), (way, after)
            assert os.getxattr("note", "user.tag") == b"kept", way
            assert after.st_mtime_ns >= start and after.st_ctime_ns >= start, (way, after.st_mtime_ns, start)
            assert (after.st_ino == before.st_ino) == keeps, way
            # Who had it open has the new text of the same file, or the old text of the old one.
            assert reader.read() == (text if keeps else old), way
            assert os.fstat(reader.fileno()).st_nlink == (1 if keeps or backup else 0), way
            reader.close()
            assert sorted(os.listdir()) == (["note"] if backup is None else ["note", "note~"]), (way, os.listdir())
            if backup is not None:
                assert open("note~", "rb").read() == old and (os.stat("note~").st_ino == before.st_ino) == backup, way
        os.chdir(top)

if sys.argv[1] == "all": every_way()
else: WAYS[sys.argv[2]][0](b"saved once, at %d\n" % time.time_ns())
