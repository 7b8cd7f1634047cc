package gptdisk_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/standin/gptdisk"
)

// sparse makes sparse files of the given sizes with their number in the first byte.
func sparse(t *testing.T, sizes ...int64) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for i, size := range sizes {
		path := filepath.Join(dir, fmt.Sprintf("a directory's name, longer than 36 characters %d", i), "layer.erofs")
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte{byte(i + 1)}, 0o644))
		must(t, os.Truncate(path, size))
		paths = append(paths, path)
	}
	return paths
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTable lets sfdisk read the table of the disk that a descriptor describes. That QEMU reads descriptors the same
// way is seen by the tests with a VM.
func TestTable(t *testing.T) {
	if _, err := exec.LookPath("sfdisk"); err != nil {
		t.Skip("needs sfdisk (Debian package fdisk)")
	}
	sizes := []int64{4096, 3 << 20, 1<<20 + 512, 4097}
	layout, err := gptdisk.NewLayout(sparse(t, sizes...))
	must(t, err)
	vmdk, err := layout.Write(t.TempDir())
	must(t, err)
	disk := assemble(t, vmdk)
	fi, err := os.Stat(disk)
	must(t, err)
	if fi.Size() != int64(layout.Sectors()*512) {
		t.Errorf("the disk has %d bytes, want %d", fi.Size(), layout.Sectors()*512)
	}
	checkPartitions(t, disk, sizes)
}

var extentLine = regexp.MustCompile(`(?m)^RW (\d+) FLAT "(.*)" (\d+)$`)

// assemble makes the disk that a descriptor describes.
func assemble(t *testing.T, vmdk string) string {
	t.Helper()
	text, err := os.ReadFile(vmdk)
	must(t, err)
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	must(t, err)
	defer disk.Close()
	var at int64
	for _, m := range extentLine.FindAllStringSubmatch(string(text), -1) {
		sectors, err := strconv.ParseInt(m[1], 10, 64)
		must(t, err)
		offset, err := strconv.ParseInt(m[3], 10, 64)
		must(t, err)
		file, err := os.Open(m[2])
		must(t, err)
		_, err = io.Copy(io.NewOffsetWriter(disk, at), io.NewSectionReader(file, offset*512, sectors*512))
		must(t, errors.Join(err, file.Close()))
		at += sectors * 512
	}
	must(t, disk.Truncate(at))
	return disk.Name()
}

func checkPartitions(t *testing.T, disk string, sizes []int64) {
	t.Helper()
	out, err := exec.Command("sfdisk", "--json", disk).Output()
	must(t, err)
	var dump struct {
		PartitionTable struct {
			Label      string
			Partitions []struct {
				Start, Size int64
				Type, Name  string
			}
		}
	}
	must(t, json.Unmarshal(out, &dump))
	table := dump.PartitionTable
	if table.Label != "gpt" || len(table.Partitions) != len(sizes) {
		t.Fatalf("sfdisk sees a table %q with %d partitions: %s", table.Label, len(table.Partitions), out)
	}
	f, err := os.Open(disk)
	must(t, err)
	defer f.Close()
	for i, p := range table.Partitions {
		if p.Start%2048 != 0 || p.Size != (sizes[i]+511)/512 || p.Type != "0FC63DAF-8483-4772-8E79-3D69D8477DE4" {
			t.Errorf("partition %d: %+v, want %d bytes", i+1, p, sizes[i])
		}
		want := fmt.Sprintf("erofs-%d-sa directory's name, longer", i)
		if !strings.HasPrefix(p.Name, want) || len(p.Name) != 36 {
			t.Errorf("partition %d is named %q", i+1, p.Name)
		}
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, p.Start*512); err != nil || b[0] != byte(i+1) {
			t.Errorf("partition %d begins with %d, %v", i+1, b[0], err)
		}
	}
}

// TestVerify lets sgdisk check the table. The only problems are those of the backup that runtime-rs leaves out: it is
// said to be behind the end of the disk.
func TestVerify(t *testing.T) {
	if _, err := exec.LookPath("sgdisk"); err != nil {
		t.Skip("needs sgdisk (Debian package gdisk)")
	}
	layout, err := gptdisk.NewLayout(sparse(t, 4096, 8192))
	must(t, err)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	must(t, os.WriteFile(disk, layout.Head(), 0o644))
	must(t, os.Truncate(disk, int64(layout.Sectors()*512)))
	out, _ := exec.Command("sgdisk", "-v", disk).CombinedOutput() // its status says that there is a problem
	for _, line := range strings.Split(string(out), "\n") {
		if text, ok := strings.CutPrefix(line, "Problem: "); ok && !strings.Contains(text, "backup") &&
			!strings.Contains(text, "secondary") && !strings.HasPrefix(text, "Disk is too small") {
			t.Errorf("sgdisk: %s", line)
		}
	}
	if strings.Contains(string(out), "main header's") || strings.Contains(string(out), "main GPT header") {
		t.Errorf("sgdisk: %s", out)
	}
}

// TestLargeFile: extents are at most 2 GiB.
func TestLargeFile(t *testing.T) {
	paths := sparse(t, 5<<30, 4096)
	layout, err := gptdisk.NewLayout(paths)
	must(t, err)
	dir := t.TempDir()
	vmdk, err := layout.Write(dir)
	must(t, err)
	text, err := os.ReadFile(vmdk)
	must(t, err)
	want := fmt.Sprintf("RW 2048 FLAT %[2]q 0\nRW 4194304 FLAT %[1]q 0\nRW 4194304 FLAT %[1]q 4194304\n"+
		"RW 2097152 FLAT %[1]q 8388608\nRW 8 FLAT %[3]q 0\n", paths[0], filepath.Join(dir, "gpt_meta_head.img"), paths[1])
	if !strings.Contains(string(text), want) {
		t.Errorf("descriptor:\n%s\nwant in it:\n%s", text, want)
	}
}

func TestErrors(t *testing.T) {
	quoted := filepath.Join(t.TempDir(), "a \"quoted\" name")
	must(t, os.WriteFile(quoted, make([]byte, 512), 0o644))
	layout, err := gptdisk.NewLayout([]string{quoted})
	must(t, err)
	_, err = layout.Write(t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "cannot be written in a VMDK descriptor") {
		t.Errorf("a quoted path: %v", err)
	}
	many := make([]string, 129)
	for i := range many {
		many[i] = quoted
	}
	for want, paths := range map[string][]string{
		"no EROFS layers": nil, "exceeds maximum 128": many, "not accessible": {"/nonexistent"},
		"not a regular file": {"/dev/null"}, "is empty": sparse(t, 0),
	} {
		if _, err := gptdisk.NewLayout(paths); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	if _, err := gptdisk.Concatenate(t.TempDir(), sparse(t, 0)); err == nil {
		t.Error("a disk of nothing")
	}
}
