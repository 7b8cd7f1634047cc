package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// payload is a small one; the files' names are those of the real one.
var payload = map[string]string{
	"usr/local/bin/crio": "#!crio 1\n",
	"usr/local/bin/containerd-shim-kata-erofs-layer-v2":         "-> containerd-shim-kata-erofs-v2",
	"usr/local/bin/containerd-shim-kata-erofs-v2":               "#!shim 1\n",
	"opt/nri/plugins/10-crio-erofs":                             "-> /usr/local/bin/crio-erofs-hook",
	"etc/crio-erofs/config.toml":                                "# 1\n",
	"usr/share/containers/oci/hooks.d/60-crio-erofs-guard.json": "{}\n",
	"etc/crio/crio.conf.d/60-kata-erofs.conf":                   "# 1\n",
	"etc/systemd/system/crio.service.d/10-erofs.conf":           "[Service]\n",
}

// tempDir makes a directory in memory, if there is such a place: the installer syncs what it writes.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "installer-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// tree writes files to a new directory. Content after "-> " is a link's target.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := tempDir(t)
	for name, content := range files {
		write(t, filepath.Join(dir, name), content)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	var err error
	if target, ok := strings.CutPrefix(content, "-> "); ok {
		err = os.Symlink(target, path)
	} else {
		mode := fs.FileMode(0o644)
		if strings.Contains(path, "/bin/") {
			mode = 0o755
		}
		err = os.WriteFile(path, []byte(content), mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// snapshot lists a tree: names, modes and contents, and when a file was written.
func snapshot(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		line := info.Mode().String() + " " + name
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(content) + info.ModTime().String()
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// do runs the program's command line and returns what it printed.
func do(t *testing.T, payload, host string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := command(&out)
	c.SetArgs(append(args, "--payload", payload, "--host", host))
	err := c.Execute()
	return out.String(), err
}

func mustDo(t *testing.T, payload, host string, args ...string) string {
	t.Helper()
	out, err := do(t, payload, host, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestInstallUninstall wants the files there, nothing written a second time, and at the end the node as it was.
func TestInstallUninstall(t *testing.T) {
	from := tree(t, payload)
	host := tree(t, map[string]string{"etc/crio/crio.conf": "# theirs\n", "usr/local/bin/theirs": "#!\n"})
	before := snapshot(t, host)

	if _, err := do(t, from, host, "status"); err == nil {
		t.Error("status is satisfied with a node that has no file of ours")
	}
	if slices.Compare(before, snapshot(t, host)) != 0 {
		t.Error("status changes the node")
	}
	out := mustDo(t, from, host, "install")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(payload) || !strings.Contains(lines[0], "/usr/local/bin/") ||
		!strings.HasSuffix(lines[len(lines)-1], "/etc/systemd/system/crio.service.d/10-erofs.conf") {
		t.Errorf("not all files, programs first, the service's drop-in last:\n%s", out)
	}
	for name, content := range payload {
		f, err := os.Lstat(filepath.Join(host, name))
		if err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			if got, _ := os.Readlink(filepath.Join(host, name)); got != target {
				t.Errorf("%s leads to %q, want %q", name, got, target)
			}
		} else if got, _ := os.ReadFile(filepath.Join(host, name)); string(got) != content {
			t.Errorf("%s has %q, want %q", name, got, content)
		} else if isProgram := strings.Contains(name, "/bin/"); isProgram != (f.Mode().Perm() == 0o755) {
			t.Errorf("%s has mode %v", name, f.Mode())
		}
	}
	mustDo(t, from, host, "status")
	installed := snapshot(t, host)
	if out := mustDo(t, from, host, "install"); out != "" || slices.Compare(installed, snapshot(t, host)) != 0 {
		t.Errorf("a second install is not idle: %s", out)
	}

	out = mustDo(t, from, host, "uninstall")
	if !strings.HasPrefix(out, "removed   /etc/systemd/system/crio.service.d/10-erofs.conf\n") {
		t.Errorf("the service's drop-in is not removed first:\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(host, "usr/local/bin/crio")); err != nil {
		t.Errorf("uninstall takes away a program that systemd still names: %v", err)
	}
	mustDo(t, from, host, "uninstall", "--programs")
	if after := snapshot(t, host); slices.Compare(before, after) != 0 {
		t.Errorf("the node was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// TestUpgrade wants new versions of what is unchanged, the administrator's own version of what is not, and nothing of
// what the new payload does not have any more.
func TestUpgrade(t *testing.T) {
	host := tempDir(t)
	from := tree(t, payload)
	mustDo(t, from, host, "install")
	config := filepath.Join(host, "etc/crio-erofs/config.toml")
	write(t, config, "# mine\n")

	write(t, filepath.Join(from, "usr/local/bin/crio"), "#!crio 2\n")
	write(t, filepath.Join(from, "etc/crio-erofs/config.toml"), "# 2\n")
	if err := os.Remove(filepath.Join(from, "usr/share/containers/oci/hooks.d/60-crio-erofs-guard.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t, from, host, "status"); err == nil {
		t.Error("status is satisfied with the old version")
	}
	out := mustDo(t, from, host, "install")
	want := "wrote     /usr/local/bin/crio\nkept      /etc/crio-erofs/config.toml: changed on this node\n" +
		"removed   /usr/share/containers/oci/hooks.d/60-crio-erofs-guard.json\n"
	if out != want {
		t.Errorf("upgrade says\n%s\nwant\n%s", out, want)
	}
	if got, _ := os.ReadFile(config); string(got) != "# mine\n" {
		t.Errorf("the changed configuration is now %q", got)
	}
	mustDo(t, from, host, "status")
	mustDo(t, from, host, "uninstall", "--programs")
	if got, _ := os.ReadFile(config); string(got) != "# mine\n" {
		t.Errorf("uninstall leaves of the changed configuration %q", got)
	}
}

// TestForeignProgram wants a program of somebody else's to be an error, before anything is written.
func TestForeignProgram(t *testing.T) {
	from := tree(t, payload)
	host := tree(t, map[string]string{"usr/local/bin/crio": "#!theirs\n"})
	before := snapshot(t, host)
	_, err := do(t, from, host, "install")
	if err == nil || !strings.Contains(err.Error(), "/usr/local/bin/crio: not from this installer") {
		t.Errorf("install over a foreign program: %v", err)
	}
	if slices.Compare(before, snapshot(t, host)) != 0 {
		t.Error("the node was changed")
	}
}

// TestInterrupted has install fail at each of its files in turn, over an older version, and wants the next run to find
// everything again, and uninstall to leave nothing.
func TestInterrupted(t *testing.T) {
	for name := range payload {
		from, newer := tree(t, payload), tree(t, payload)
		for name, content := range payload {
			if !strings.HasPrefix(content, "-> ") {
				write(t, filepath.Join(newer, name), content+"# 2\n")
			}
		}
		host := tempDir(t)
		mustDo(t, from, host, "install")
		// A directory is in the way of the new file: neither rename nor remove work on one that is not empty.
		block := filepath.Join(host, temporary(name))
		write(t, filepath.Join(block, "x"), "")
		if _, err := do(t, newer, host, "install"); err == nil && !strings.HasPrefix(payload[name], "-> ") {
			t.Errorf("%s: install does not notice", name)
		}
		if err := os.RemoveAll(block); err != nil {
			t.Fatal(err)
		}
		mustDo(t, newer, host, "install")
		mustDo(t, newer, host, "status")
		mustDo(t, newer, host, "uninstall", "--programs")
		if left := snapshot(t, host); len(left) > 1 {
			t.Errorf("%s: uninstall leaves\n%s", name, strings.Join(left, "\n"))
		}
	}
}

// TestOutside wants payloads refused that would write elsewhere.
func TestOutside(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"another directory": {"etc/passwd": "root::0:0\n"},
		"below a place":     {"etc/crio/crio.conf.d/more/60-kata-erofs.conf": "\n"},
		"nothing":           {},
	} {
		host := tempDir(t)
		if _, err := do(t, tree(t, files), host, "install"); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left := snapshot(t, host); len(left) > 1 {
			t.Errorf("%s: the node has\n%s", name, strings.Join(left, "\n"))
		}
	}
	// A link on the node does not lead the installer out of it.
	out, host := tempDir(t), tempDir(t)
	if err := os.Symlink(out, filepath.Join(host, "etc")); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t, tree(t, payload), host, "install"); err == nil {
		t.Error("install follows a link out of the node's root")
	}
	if left := snapshot(t, out); len(left) > 1 {
		t.Errorf("outside there is now\n%s", strings.Join(left, "\n"))
	}
}

// TestDamagedRecord wants nothing done on a node whose record cannot be read.
func TestDamagedRecord(t *testing.T) {
	for _, content := range []string{"{", `{"version": 2}`} {
		host := tree(t, map[string]string{recordPath: content})
		for _, verb := range []string{"install", "uninstall", "status"} {
			if _, err := do(t, tree(t, payload), host, verb); err == nil || !strings.Contains(err.Error(), recordPath) {
				t.Errorf("%s with the record %s: %v", verb, content, err)
			}
		}
	}
}

// TestRealPayload lays out and installs what the image has.
func TestRealPayload(t *testing.T) {
	if _, err := env.Bin("crio"); err != nil {
		t.Skip(err)
	}
	image, host := tempDir(t), tempDir(t)
	from := filepath.Join(image, "payload")
	if out, err := exec.Command("../node/payload.sh", image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mustDo(t, from, host, "install")
	mustDo(t, from, host, "status")
	for _, name := range []string{"containerd-shim-kata-erofs-layer-v2", "containerd-shim-kata-erofs-guest-pull-v2"} {
		if _, err := os.Stat(filepath.Join(host, programs, name)); err != nil {
			t.Error(err)
		}
	}
	verifyUnit(t, host)
}

// verifyUnit has systemd read the drop-in together with a unit such as CRI-O's packages have.
func verifyUnit(t *testing.T, host string) {
	t.Helper()
	systemd, err := exec.LookPath("systemd-analyze")
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(host, "usr/lib/systemd/system/crio.service")
	write(t, unit, "[Unit]\nDescription=CRI-O\nDefaultDependencies=no\n[Service]\nType=notify\nExecStart=/usr/bin/crio\n")
	verify := func() string {
		out, _ := exec.Command(systemd, "verify", "--root="+host, "--man=no", "crio.service").CombinedOutput() // says it all
		return string(out)
	}
	if out := verify(); out != "" {
		t.Errorf("systemd-analyze says: %s", out)
	}
	// Without the drop-in it is the package's program, which is not there: the check sees what is started.
	if err := os.Remove(filepath.Join(host, "etc/systemd/system/crio.service.d/10-erofs.conf")); err != nil {
		t.Fatal(err)
	}
	if out := verify(); !strings.Contains(out, "/usr/bin/crio is not executable") {
		t.Errorf("systemd-analyze does not miss /usr/bin/crio: %s", out)
	}
}
