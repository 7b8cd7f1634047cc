package crio_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
	"github.com/crio-erofs/crio-erofs/test/images"
)

const motd = "This file came out of an EROFS volume.\n"

// tampered says where in a volume a byte is changed.
var tampered = map[string]func(content []byte, v *volume.Verity) int64{
	"data": func(content []byte, _ *volume.Verity) int64 { return int64(bytes.Index(content, []byte(motd))) },
	// The hash of the file's block, in the lowest level, which is the last one of the tree.
	"tree": func(content []byte, v *volume.Verity) int64 {
		const hashesPerBlock = 4096 / 32
		leaves := (int64(v.DataBlocks) + hashesPerBlock - 1) / hashesPerBlock * 4096
		block := int64(bytes.Index(content, []byte(motd))) / 4096
		return int64(len(content)) - leaves + block*32
	},
	// inos of erofs_super_block (Linux fs/erofs/erofs_fs.h)
	"superblock":           func([]byte, *volume.Verity) int64 { return 1024 + 16 },
	"superblock of verity": func(_ []byte, v *volume.Verity) int64 { return int64(v.HashOffset) + 88 }, // its salt
	"top of the tree":      func(_ []byte, v *volume.Verity) int64 { return int64(v.TreeOffset) },
}

// manifests are changes of a manifest between the hook and the shim, by sed.
var manifests = map[string]string{
	"root hash":       `s/\("root_hash": *"\)\([0-9a-f]\)\([0-9a-f]*\)"/\1\3\2"/g`,
	"another file":    `s,/volumes/[0-9a-f]*/layer.erofs",/volumes/../../../../elsewhere/layer.erofs",g`,
	"size":            `s/"size": *\([0-9]\)/"size": 1\1/g`,
	"another inode":   `s/"inode": *\([0-9]\)/"inode": 1\1/g`,
	"no verity":       `s/"verity":/"vanity":/g`,
	"another version": `s/"version": *1/"version": 2/`,
}

// wrapper stands in the place of Kata's shim. Its start runs after the hook and before the create, and may change the
// container's manifest, which is where the driver says (volume.ManifestPath).
const wrapper = `#!/bin/sh
if [ -s %[1]s/expression ]; then
	manifest=$(sed -n 's,.*"path": *"\([^"]*\)/merged".*,\1,p' config.json)/manifest.json
	sed -i.old -f %[1]s/expression "$manifest"
	cmp "$manifest" "$manifest.old" > %[1]s/difference 2>&1
fi
exec %[2]s "$@"
`

// TestKataTamper changes volumes and manifests of running CRI-O's store, in each dialect with verity and for both kinds of
// volumes: no container ever reads what was changed.
func TestKataTamper(t *testing.T) {
	dir := t.TempDir()
	server := startVM(t, withImageVolumes, func(o *crio.Options) {
		o.Env = append(o.Env, "CRIO_EROFS_REAL_SHIM="+filepath.Join(dir, "wrapper"))
		standIn := must[env.StandIn](t)(builtStandIn())
		writeProgram(t, filepath.Join(dir, "wrapper"), fmt.Sprintf(wrapper, dir, standIn.Shim))
	})
	ref := pull(t, server, images.Small)
	for _, dialect := range []string{"auto", "raw-volume"} {
		set(t, server, dialect, kata.ModeLayerVerity)
		pod := must[*crio.Pod](t)(server.RunPod(timeout(t), crio.PodOptions{Handler: crio.HandlerVM}))
		for _, mode := range []kata.Mode{kata.ModeImageVerity, kata.ModeLayerVerity} {
			// makes the image's volume, and shows that what is refused below is right but for the change
			if _, err := motdIn(t, pod, ref, mode); err != nil {
				t.Fatalf("%s, %s: %v", dialect, mode, err)
			}
			for what, at := range tampered {
				undo := tamper(t, server, at)
				if said, err := motdIn(t, pod, ref, mode); err == nil {
					t.Errorf("%s, %s, %s changed: the container read %q", dialect, mode, what, said)
				} else {
					t.Logf("%s, %s, %s changed: %.300v", dialect, mode, what, err)
				}
				undo()
			}
			for what, expression := range manifests {
				if dialect != "auto" {
					continue // what the shim makes of a manifest does not depend on what it tells Kata
				}
				writeProgram(t, filepath.Join(dir, "expression"), expression+"\n")
				_, err := motdIn(t, pod, ref, mode)
				if err == nil || !strings.Contains(err.Error(), "crio-erofs: ") {
					t.Errorf("%s, %s, manifest with %s: %v", dialect, mode, what, err)
				}
				if d, err := os.ReadFile(filepath.Join(dir, "difference")); err != nil || !strings.Contains(string(d), "differ: ") {
					t.Errorf("%s, %s: the manifest was not changed: %q, %v", mode, what, d, err)
				}
			}
			writeProgram(t, filepath.Join(dir, "expression"), "")
		}
		if err := pod.Remove(timeout(t)); err != nil {
			t.Error(err)
		}
	}
}

func writeProgram(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

// motdIn reads the image's file in a container. It is an error if that cannot be.
func motdIn(t *testing.T, pod *crio.Pod, ref string, mode kata.Mode) (string, error) {
	_, result, err := pod.Run(timeout(t), crio.ContainerOptions{Image: ref, Command: []string{"cat", "/etc/motd"},
		Annotations: map[string]string{kata.AnnotationRequest: string(mode)}})
	if err == nil && (result.ExitCode != 0 || result.Stdout != motd) {
		err = fmt.Errorf("%+v", result)
	}
	return result.Stdout, err
}

// tamper changes a byte of each volume that has the image's file.
func tamper(t *testing.T, server *crio.Server, at func([]byte, *volume.Verity) int64) (undo func()) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(server.GraphRoot(), "erofs/volumes/*", volume.FileName))
	if err != nil {
		t.Fatal(err)
	}
	var undos []func()
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(content, []byte(motd)) {
			continue
		}
		d, err := volume.Inspect(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		offset := at(content, d.Verity)
		flipAt(t, file, offset)
		undos = append(undos, func() { flipAt(t, file, offset) })
	}
	if len(undos) != 2 { // a layer's and the image's
		t.Fatalf("%d volumes have the file", len(undos))
	}
	return func() {
		for _, undo := range undos {
			undo()
		}
	}
}

// flipAt changes the lowest bit of a file's byte.
func flipAt(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
