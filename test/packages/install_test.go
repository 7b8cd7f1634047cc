package packages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/env"
)

const manifest = "/usr/local/share/crio-erofs/installed"

// installation is a DESTDIR with parts in it, as "make install" makes it.
type installation struct {
	t              *testing.T
	stage, destdir string
	parts          []string
}

func install(t *testing.T, parts ...string) *installation {
	t.Helper()
	packageFile(t, "crio-erofs.deb") // the programs are built
	i := &installation{t: t, stage: filepath.Join(t.TempDir(), "stage"), destdir: t.TempDir(), parts: parts}
	for _, part := range parts {
		if err := script(t.Context(), "stage.sh", part, filepath.Join(i.stage, part), "/usr/local"); err != nil {
			t.Fatal(err)
		}
		i.run("install", filepath.Join(i.stage, part), i.destdir+"/", manifest+"-"+part)
	}
	return i
}

// run runs install.sh and returns what it said.
func (i *installation) run(args ...string) string {
	i.t.Helper()
	root, err := env.Root()
	if err != nil {
		i.t.Fatal(err)
	}
	return run(i.t, filepath.Join(root, "contrib/packaging/install.sh"), args...)
}

func (i *installation) path(name string) string { return filepath.Join(i.destdir, name) }

// update writes into the stage, as a later version does, and installs that.
func (i *installation) update(name, content string) string {
	i.t.Helper()
	write(i.t, filepath.Join(i.stage, "node", name), content)
	return i.run("install", filepath.Join(i.stage, "node"), i.destdir+"/", manifest+"-node")
}

func (i *installation) uninstall() string {
	i.t.Helper()
	said := ""
	for _, part := range slices.Backward(i.parts) { // as the Makefile does: the first part has made the directories
		said += i.run("uninstall", i.destdir+"/", manifest+"-"+part)
	}
	return said
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestInstall compares what is installed with the list in testdata, and removes it: nothing is left.
func TestInstall(t *testing.T) {
	needRoot(t)
	i := install(t, "node", "crio")
	lines := listDirectory(t, i.destdir)
	compare(t, "make-install.txt", lines)
	for _, name := range []string{"/etc/crio/crio.conf.d/60-erofs.conf", "/etc/systemd"} {
		if _, err := os.Lstat(i.path(name)); !os.IsNotExist(err) {
			t.Errorf("%s: installed, or %v: that is for the admin to do", name, err)
		}
	}
	for _, text := range []string{"/etc/crio/crio.conf.d/60-kata-erofs.conf", "/usr/local/lib/systemd/system/crio.service"} {
		if !strings.Contains(read(t, i.path(text)), "/usr/local/bin/c") {
			t.Errorf("%s does not name the programs in /usr/local", text)
		}
	}
	i.uninstall()
	if left := listDirectory(t, i.destdir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if dirs, err := os.ReadDir(i.destdir); err != nil || len(dirs) > 0 {
		t.Errorf("left: %v, %v", dirs, err)
	}
}

// TestInstallKeepsConfiguration: what somebody has changed stays, in an upgrade and when all else goes; what nobody has
// changed is brought up to date.
func TestInstallKeepsConfiguration(t *testing.T) {
	const config, plugin = "/etc/crio-erofs/config.toml", "/etc/nri/conf.d/10-crio-erofs.conf"
	i := install(t, "node")
	theirs := i.path("/etc/crio/crio.conf.d/00-default.conf")
	write(t, theirs, "# somebody else's\n")
	write(t, i.path(config), "# changed by the admin\n")

	i.update(plugin, `{"log_level": "debug"}`)
	if got := read(t, i.path(plugin)); !strings.Contains(got, "debug") {
		t.Errorf("unchanged configuration was not replaced: %s", got)
	}
	said := i.update(config, "# of a new version\n")
	if got := read(t, i.path(config)); !strings.Contains(got, "changed by the admin") ||
		!strings.Contains(said, "kept "+i.path(config)) {
		t.Errorf("changed configuration is now %q; install.sh said %q", got, said)
	}
	said = i.uninstall()
	left := listDirectory(t, i.destdir)
	if len(left) != 2 || !strings.Contains(said, "kept "+i.path(config)) || read(t, theirs) == "" {
		t.Errorf("left: %q; said: %s", left, said)
	}
}

// TestInstallUpgrade: files that a new version does not have any more go, and a second installation changes nothing.
func TestInstallUpgrade(t *testing.T) {
	i := install(t, "node")
	before := read(t, i.path(manifest+"-node"))
	i.update("/usr/local/bin/crio-erofs", "new")
	gone := "/usr/local/share/crio-erofs/storage/storage.conf"
	if err := os.Remove(filepath.Join(i.stage, "node", gone)); err != nil {
		t.Fatal(err)
	}
	link := i.path("/opt/nri/plugins/10-crio-erofs")
	if err := os.Remove(link); err != nil { // for the service in its place
		t.Fatal(err)
	}
	i.update("/usr/local/bin/crio-erofs", "newer")
	if _, err := os.Lstat(link); !os.IsNotExist(err) {
		t.Errorf("an upgrade brings %s back: %v", link, err)
	}
	if _, err := os.Stat(i.path(gone)); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", gone, err)
	}
	if got := read(t, i.path("/usr/local/bin/crio-erofs")); got != "newer" {
		t.Errorf("the program is %q", got)
	}
	after := read(t, i.path(manifest+"-node"))
	if b, a := strings.Count(before, "\nd "), strings.Count(after, "\nd "); a != b {
		t.Errorf("the list has %d directories after an upgrade, and had %d", a, b)
	}
	i.uninstall()
	if left := listDirectory(t, i.destdir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestUninstallNothing is an error that says so.
func TestUninstallNothing(t *testing.T) {
	root, err := env.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(root, "contrib/packaging/install.sh"), "uninstall", t.TempDir()+"/", manifest+"-node")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "nothing is installed") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestUnits has systemd check the units where they are installed.
func TestUnits(t *testing.T) {
	i := install(t, "node", "crio")
	units := []string{"crio.service", "crio-wipe.service", "crio-erofs-hook.service"}
	system := i.path("/usr/local/lib/systemd/system")
	// systemd checks that programs are there, and knows those of the system that units refer to.
	args := []string{"verify", "--man=no", "--root=" + i.destdir}
	for _, unit := range units {
		args = append(args, filepath.Join(system, unit))
	}
	for dir, content := range map[string]string{"/usr/lib/systemd": "/usr/lib/systemd/system", "/bin": "/bin/kill"} {
		if err := os.MkdirAll(i.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, "cp", "-a", content, i.path(dir))
	}
	if out := run(t, "systemd-analyze", args...); strings.TrimSpace(out) != "" {
		t.Errorf("systemd-analyze says: %s", out)
	}
	// The check can fail: a program that is not there.
	if err := os.Remove(i.path("/usr/local/bin/crio-erofs-hook")); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("systemd-analyze", args...).CombinedOutput()
	if !strings.Contains(string(out), "crio-erofs-hook") {
		t.Errorf("systemd-analyze does not miss the program: %s", out)
	}
}

// TestManual has groff format every page without a warning, and man find the pages by name.
func TestManual(t *testing.T) {
	packageFile(t, "crio-erofs.deb")
	pages, err := filepath.Glob(filepath.Join(built.manual, "man/man*/*"))
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		if out := run(t, "groff", "-man", "-Kutf8", "-Tutf8", "-ww", "-z", page); out != "" {
			t.Errorf("%s: %s", filepath.Base(page), out)
		}
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(page), filepath.Ext(page)), ".gz")
		if text := strings.ReplaceAll(read(t, page), `\-`, "-"); !strings.Contains(text, "\n"+name+" - ") {
			t.Errorf("%s: the section NAME does not begin with %q", filepath.Base(page), name+" - ")
		}
	}
}

// TestConfigPage: the page of the configuration file has the keys of the sample, which the configuration's own tests hold
// to be all there are, and no other.
func TestConfigPage(t *testing.T) {
	root, err := env.Root()
	if err != nil {
		t.Fatal(err)
	}
	keys := func(path, pattern string) []string {
		var names []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, filepath.Join(root, path)), -1) {
			names = append(names, m[1])
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	sample := keys("contrib/config/config.toml", `(?m)^(?:# )?([a-z_]+) = `)
	page := keys("docs/man/crio-erofs-config.toml.5.md", `(?m)^\*\*([a-z_]+)\*\* = `)
	if len(sample) < 8 || !slices.Equal(sample, page) {
		t.Errorf("the sample has %q, the page %q", sample, page)
	}
}

// TestPrefix: what this node reads has its prefix; what is for a cluster's nodes is as it is, for the installer's image has
// its programs in /usr/local.
func TestPrefix(t *testing.T) {
	packageFile(t, "crio-erofs.deb") // the programs are built
	root, err := env.Root()
	if err != nil {
		t.Fatal(err)
	}
	stage := t.TempDir()
	if err := script(t.Context(), "stage.sh", "node", stage, "/opt/x"); err != nil {
		t.Fatal(err)
	}
	if unit := read(t, filepath.Join(stage, "opt/x/lib/systemd/system/crio-erofs-hook.service")); !strings.Contains(unit,
		"ExecStart=/opt/x/bin/crio-erofs-hook nri\n") {
		t.Error(unit)
	}
	for _, name := range []string{"kubernetes/daemonset.yaml", "kubernetes/uninstall.yaml", "kubernetes/README.md",
		"kubernetes/node/crio.service.d/10-erofs.conf", "openshift/machineosconfig.yaml"} {
		if read(t, filepath.Join(stage, "opt/x/share/crio-erofs", name)) != read(t, filepath.Join(root, "contrib", name)) {
			t.Errorf("%s was changed", name)
		}
	}
}
