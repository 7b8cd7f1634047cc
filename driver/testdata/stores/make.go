// Command make adds an image of two layers and a container to a store, and what the layers were made of to a folder.
// It is run in the work tree of a release, with that release's driver; see make.sh.
//
//	make ROOT NAME [OPTION...]
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"

	_ "github.com/crio-erofs/crio-erofs/driver"
)

func main() {
	if reexec.Init() {
		return
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		log.Fatal(err)
	}
}

// layers are the entries of the layers' tars: those that end with a slash are directories.
var layers = [][][2]string{
	{{"etc/"}, {"etc/passwd", "root:x:0:0\n"}, {"etc/gone", "x"}, {"old/"}, {"old/a", "a"}},
	{{"etc/"}, {"etc/.wh.gone"}, {"old/"}, {"old/.wh..wh..opq"}, {"old/b", "b"}},
}

func run(root, name string, options []string) error {
	s, err := storage.GetStore(storage.StoreOptions{
		GraphRoot: filepath.Join(root, "graph"), RunRoot: filepath.Join(root, "run"), GraphDriverName: "erofs",
		GraphDriverOptions: options,
	})
	if err != nil {
		return err
	}
	top := ""
	for i, entries := range layers {
		b, err := makeTar(entries)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, fmt.Sprintf("layer%d.tar", i)), b, 0o644); err != nil {
			return err
		}
		layer, _, err := s.PutLayer("", top, nil, "", false, nil, bytes.NewReader(b))
		if err != nil {
			return err
		}
		top = layer.ID
	}
	image, err := s.CreateImage("", []string{"example/" + name + ":1"}, top, "", nil)
	if err != nil {
		return err
	}
	container, err := s.CreateContainer("", []string{name}, image.ID, "", "", nil)
	if err != nil {
		return err
	}
	mounted, err := s.Mount(container.ID, "")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(mounted, "etc/new"), []byte("new"), 0o600); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(mounted, "old/b")); err != nil {
		return err
	}
	if _, err := s.Unmount(container.ID, true); err != nil {
		return err
	}
	_, err = s.Shutdown(false)
	return err
}

func makeTar(entries [][2]string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e[0], Mode: 0o644, Size: int64(len(e[1])), ModTime: time.Unix(1700000000, 0), Typeflag: tar.TypeReg}
		if e[0][len(e[0])-1] == '/' {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(e[1])); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
