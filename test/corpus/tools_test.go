package corpus_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/tree"
)

// packer is a program that makes tars, with options.
type packer struct {
	name    string
	program []string

	// partial: the format has no room for some of the files, which the program says and leaves out.
	partial bool

	xattrs, acls bool // the tar has them in a form that GNU tar extracts as extended attributes

	refused string // part of the error, of a tar that is no layer
}

// noHardLinks leaves the links to long names out where the format has no room for these: a tar with a link to nothing
// is no layer, and no tar that GNU tar extracts.
const noHardLinks = "--exclude=hard-*"

func gnu(format string, options ...string) []string {
	return append([]string{"tar", "--format=" + format, "--numeric-owner", "--sort=name"}, options...)
}

func bsd(format string, options ...string) []string {
	return append([]string{"bsdtar", "--format=" + format}, options...)
}

var packers = []packer{
	{name: "gnu-v7", program: gnu("v7", noHardLinks), partial: true},
	{name: "gnu-ustar", program: gnu("ustar", noHardLinks), partial: true},
	{name: "gnu-oldgnu", program: gnu("oldgnu")},
	{name: "gnu-oldgnu-sparse", program: gnu("oldgnu", "--sparse")},
	{name: "gnu-gnu", program: gnu("gnu")},
	{name: "gnu-gnu-sparse", program: gnu("gnu", "--sparse", "--hole-detection=raw")},
	{name: "gnu-posix", program: gnu("posix")},
	{name: "gnu-posix-sparse-0.0", program: gnu("posix", "--sparse", "--sparse-version=0.0")},
	{name: "gnu-posix-sparse-0.1", program: gnu("posix", "--sparse", "--sparse-version=0.1")},
	{name: "gnu-posix-sparse-1.0", program: gnu("posix", "--sparse", "--sparse-version=1.0")},
	{
		name: "gnu-posix-xattrs", program: gnu("posix", "--sparse", "--xattrs", "--xattrs-include=*"),
		xattrs: true, acls: true,
	},
	{name: "gnu-posix-acls", program: gnu("posix", "--acls", "--xattrs", "--xattrs-include=*"), xattrs: true},
	{name: "gnu-posix-global", program: gnu("posix", "--pax-option=globexthdr.name=global,comment=test,delete=atime")},
	{name: "gnu-hard-dereference", program: gnu("gnu", "--hard-dereference")},
	{name: "gnu-owner-map", program: gnu("gnu", "--owner=+3000000", "--group=+2147483648")},
	{name: "gnu-mtime-negative", program: gnu("gnu", "--mtime=1950-01-01 00:00:00.75")},
	{name: "gnu-mtime-future", program: gnu("posix", "--mtime=2242-01-01 00:00:00.75")},
	{name: "gnu-inode-order", program: gnu("gnu", "--sort=inode", "--blocking-factor=1")},
	{name: "gnu-label", program: gnu("gnu", "--label=a label")},
	{name: "gnu-posix-label", program: gnu("posix", "--label=a label")},
	{name: "gnu-incremental", program: gnu("gnu", "--incremental"), refused: "type 'D' is not one"},
	{name: "gnu-posix-incremental", program: gnu("posix", "--incremental")},
	{name: "bsd-v7", program: bsd("v7", noHardLinks), partial: true},
	{name: "bsd-ustar", program: bsd("ustar", noHardLinks), partial: true},
	{name: "bsd-gnutar", program: bsd("gnutar"), partial: true},
	{name: "bsd-pax", program: bsd("pax"), partial: true},
	{name: "bsd-pax-binary", program: bsd("pax", "--options=hdrcharset=BINARY"), partial: true},
	{name: "bsd-paxr", program: bsd("paxr", "--acls", "--xattrs"), partial: true, xattrs: true},
}

// check makes sure that the tar has what it is there for: a corpus that lost it would make tests pass.
func (p packer) check(t *testing.T, want files) {
	t.Helper()
	least := 120
	if p.partial {
		least = 30
	}
	if len(want) < least {
		t.Errorf("the tar has %d entries only", len(want))
	}
	large, file := want["kinds/large"], want["kinds/dir/file"]
	for what, there := range map[string]bool{
		"set-id bits":   want["kinds/setid"].Mode&0o7777 == 0o6755,
		"hard link":     want["kinds/links/b"].Links == 5 || p.name == "gnu-hard-dereference",
		"symbolic link": want["kinds/links/soft"].Target == "nowhere",
		"sparse file":   want["kinds/hole"].Size == 3<<20,
		"xattr":         !p.xattrs || large.Xattrs["user.blob"] == "\x00\xff\x0a=\x00" && large.Xattrs["trusted.t"] != "",
		"capability":    !p.xattrs || large.Xattrs["security.capability"] != "",
		"ACL":           !p.acls || file.Xattrs["system.posix_acl_access"] != "",
	} {
		if !there {
			t.Errorf("the tar has lost its %s", what)
		}
	}
}

// TestCorpusTools has GNU tar and bsdtar pack one tree in every format that they know.
func TestCorpusTools(t *testing.T) {
	src := source(t)
	for _, p := range packers {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			tree.RequireTool(t, p.program[0])
			tarFile := filepath.Join(t.TempDir(), "layer.tar")
			args := slices.Concat(p.program[1:], []string{"-C", src, "-cf", tarFile, "kinds", "names"})
			out, err := command(p.program[0], args...).CombinedOutput()
			if err != nil && !p.partial {
				t.Fatalf("%v: %s", err, out)
			}
			if p.refused != "" {
				_, _, err := convert(t, tarFile, volume.LayoutAligned)
				refuse(t, tarFile, err, p.refused)
				return
			}
			want := mustExtract(t, tarFile)
			p.check(t, want)
			judge(t, tarFile, want)
		})
	}
}

// TestCorpusAppended takes tars that grew: entries that come again, and a tar behind a tar.
func TestCorpusAppended(t *testing.T) {
	src := source(t)
	dir := t.TempDir()
	for name, script := range map[string]string{
		"again":        `tar -cf $0 kinds; echo other > kinds/dir/file; tar -rf $0 kinds/dir names`,
		"update":       `tar -cf $0 kinds; touch kinds/empty; echo new > kinds/new; tar -uf $0 kinds`,
		"concatenated": `tar -cf $0 kinds; tar -cf $0.2 names; tar -Af $0 $0.2`,
		"other types": `cd kinds; tar -cf $0 .; rm fifo char empty; echo file > fifo; ln -s x char; mknod empty c 1 1
			tar -rf $0 fifo char ./empty`,
	} {
		t.Run(name, func(t *testing.T) {
			tree.RequireTool(t, "tar")
			own := filepath.Join(dir, name)
			run(t, "cp", "-a", src, own)
			cmd := command("bash", "-ec", script, filepath.Join(t.TempDir(), "layer.tar"))
			cmd.Dir = own
			if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "socket ignored") {
				t.Fatalf("%v: %s", err, out)
			}
			judge(t, cmd.Args[3], mustExtract(t, cmd.Args[3]))
		})
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}
