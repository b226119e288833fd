# Makes, changes and inherits ACLs, and prints what came of it: the same on every file system that has them. All that is made
# can be read by its owner.
try() { "$@" 2>&1 || echo "it failed: $*"; }
same_or_not() { if [ "$1" = "$2" ]; then echo same; else echo other; fi; }

mkdir plain minimal named deep masked
setfacl -m d:u::rwx,d:g::rx,d:o::- minimal
setfacl -m d:u:1:rwx,d:g:60:rx,d:o::r named
setfacl -m u:1:rwx,g:60:w,d:u:1:rx,d:g::- deep
setfacl -m d:u:1:rwx,d:m::r,d:o::wx masked
chmod g+s deep
for mask in 000 027 077; do
    umask $mask
    for dir in plain minimal named deep masked; do
        (
            cd $dir
            : > file-$mask
            mkdir dir-$mask
            mkdir -m 2751 mode-$mask
            mkfifo pipe-$mask
            ln -s file-$mask link-$mask
            install -m 640 /dev/null installed-$mask
            (cd dir-$mask && umask 022 && mkdir again && : > again/file)
            python3 -c "import os, socket
socket.socket(socket.AF_UNIX).bind('socket-$mask')
for mode in (0o777, 0o640, 0o407, 0o400): os.close(os.open(f'mode-$mask-{mode:o}', os.O_CREAT | os.O_WRONLY, mode))"
        )
    done
done

umask 022
mkdir changed
for mode in 500 507 570 740 755 2770 1777 4711; do
    for acl in u:1:rwx g:60:rx,m::- u::r,g::rw,o::x m::rw; do
        : > "changed/$mode-$acl"
        mkdir "changed/d-$mode-$acl"
        setfacl -m "$acl" "changed/$mode-$acl" "changed/d-$mode-$acl"
        chmod $mode "changed/$mode-$acl" "changed/d-$mode-$acl"
    done
done
for how in -x\ u:1 -b -k -m\ m::r -n\ -m\ u:1:rw -m\ u::rx,o::w --set\ u::rwx,g::r,o::-,u:2:rwx; do
    file="changed/$how"
    mkdir "$file"
    setfacl -m u:1:rwx,u:3:r,g::rx,d:u:1:x "$file"
    try setfacl $how "$file"
    chmod g-w "$file"
done

: > file
ln -s file link
setfacl -m u:1:rw file
ln file hard
chmod 604 hard
before=$(stat -c %z file)
sleep 0.02
setfacl -m u:1:r file
echo "ctime: $(same_or_not "$before" "$(stat -c %z file)")"
before=$(stat -c %z plain/file-000)
sleep 0.02
setfacl -m u::rwx plain/file-000
echo "ctime: $(same_or_not "$before" "$(stat -c %z plain/file-000)")"
mv hard named/moved
cp -a named copied
cp -p deep/file-000 named/copied
cp deep/file-000 named/copied-without
mv masked/dir-000 deep/moved

try setfattr -x system.posix_acl_access plain/file-000
try setfattr -x system.posix_acl_default plain
try setfacl -m d:u:1:r file
try setfattr -n system.posix_acl_default -v 0x02000000010006ffffffffff file
try setfattr -h -n system.posix_acl_access -v 0x0200000001000600ffffffff link
try getfattr -h --only-values -n system.posix_acl_access link
for value in 0x 0x02 0x03000000 0x0200000001000600ffffffff 0x02000000010006 \
    0x020000000100060001000000020004000100000004000400ffffffff20000400ffffffff \
    0x0200000001000600ffffffff02000400ffffffff04000400ffffffff10000400ffffffff20000400ffffffff \
    0x0200000001000600ffffffff04000f00ffffffff20000400ffffffff \
    0x020000000100060000000000040004000000000020000400ffffffff; do
    : > "value-$value"
    try setfattr -n system.posix_acl_access -v $value "value-$value"
done

find . | LC_ALL=C sort | xargs -d '\n' stat -c '%A %h %n'
find . ! -type l | LC_ALL=C sort | getfacl -n -
find . | LC_ALL=C sort | xargs -d '\n' getfattr -h -d -m posix_acl -e hex --
