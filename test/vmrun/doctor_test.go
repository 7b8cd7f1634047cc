package vmrun_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/vmrun"
)

// doctorFormat prints a line for each finding.
const doctorFormat = `{{range .Findings}}{{.Check}} {{.Subject}}: {{.State}}: {{.Found}}{{"\n"}}{{end}}`

// TestDoctorOldKernel has the doctor look at Linux 6.1, which mounts no volumes from files and has device-mapper: with the
// defaults, with options that this kernel cannot do, and with a kernel whose file systems have been taken away.
func TestDoctorOldKernel(t *testing.T) {
	files := needGuest(t, vmrun.Kernel61)
	program, err := env.Bin("crio-erofs")
	if err != nil {
		t.Skip(err)
	}
	config := filepath.Join(t.TempDir(), "crio.conf")
	text := "[crio]\nroot = \"/data/g\"\nstorage_driver = \"erofs\"\nstorage_option = [\"erofs.mount=file\"]\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	_, err = vmrun.Run(t.Context(), vmrun.Config{
		Guest: files, Tools: []string{"busybox"}, Output: &output,
		Files: map[string]string{"/bin/crio-erofs": program, "/file.conf": config},
		Plan: vmrun.Plan{
			Args: []string{"/bin/busybox", "sh", "-c", `doctor() { crio-erofs doctor --format "$FORMAT" "$@"; }
				doctor --crio-config /file.conf
				busybox sed -i s/mount=file/host_verity=on/ /file.conf
				echo ====; doctor --crio-config /file.conf
				busybox rmmod erofs
				echo ====; doctor; echo exit $?; busybox ls -A /data /`},
			Env:    []string{"PATH=/bin", "FORMAT=" + doctorFormat},
			Dir:    "/",
			Mounts: []vmrun.Mount{{Serial: "data", Target: "/data", FSType: "ext4"}},
		},
		Disks: []vmrun.Disk{{Path: makeDisk(t, 256<<20, "mkfs.ext4", "-q"), Serial: "data"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	runs := strings.Split(output.String(), "====\n")
	for i, wants := range [][]string{
		{"kernel erofs: ok: Linux 6.1.", "kernel mount: problem: erofs.mount=file, and Linux 6.1.", "kernel dm-verity: ok: this host can",
			"kernel loop: ok"},
		{"kernel mount: ok: volumes are mounted through dm-verity", "kernel dm-verity: ok: this host can"},
		{"kernel erofs: problem: Linux 6.1.", " has no file system erofs", "exit 1"},
	} {
		for _, want := range wants {
			if i >= len(runs) || !strings.Contains(runs[i], want) {
				t.Errorf("run %d lacks %q", i, want)
			}
		}
	}
	if _, after, _ := strings.Cut(output.String(), "exit 1\n"); strings.Contains(after, "crio-erofs-try") {
		t.Error("the doctor left something behind")
	}
	if t.Failed() {
		t.Log(output.String())
	}
}
