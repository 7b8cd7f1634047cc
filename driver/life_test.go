package driver_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing/iotest"
	"time"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/reexec"

	"github.com/crio-erofs/crio-erofs/test/trap"
)

// step is something that a process does with a store, between two of its lines on standard output.
type step struct {
	Op      string // pull, start, stop, remove
	ID      string
	Parent  string
	Content int // of a pull
}

// life is what a process does with a store.
type life struct {
	Root    string
	Options []string
	Steps   []step
	Free    bool // nobody watches its system calls
}

const lifeName = "driver-test-life"

func init() {
	reexec.Register(lifeName, func() {
		if err := live(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	})
}

// live takes the steps that standard input tells, and says when each begins and ends.
func live() error {
	var l life
	if err := json.NewDecoder(os.Stdin).Decode(&l); err != nil {
		return err
	}
	if !l.Free {
		if err := trap.Arm(false); err != nil {
			return err
		}
	}
	d, err := openDriver(l.Root, l.Options...)
	if err != nil {
		return err
	}
	for i, s := range l.Steps {
		fmt.Println("begin", i)
		if err := s.take(d); err != nil {
			return fmt.Errorf("%s %s: %w", s.Op, s.ID, err)
		}
		fmt.Println("end", i)
	}
	return nil
}

func (s *step) take(d graphdriver.Driver) error {
	switch s.Op {
	case "pull":
		if err := d.Create(s.ID, s.Parent, nil); err != nil {
			return err
		}
		_, err := d.ApplyDiff(s.ID, s.Parent, graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(content(s.Content))})
		return err
	case "start":
		if err := d.CreateReadWrite(s.ID, s.Parent, nil); err != nil {
			return err
		}
		root, err := d.Get(s.ID, graphdriver.MountOpts{})
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(root, "written"), []byte(s.ID), 0o600)
	case "stop":
		return stop(d, s.ID)
	case "remove":
		return d.Remove(s.ID)
	}
	return fmt.Errorf("unknown step %q", s.Op)
}

// contents is how many different layers there are: few, so that different chains have equal ones.
const contents = 7

var contentCache sync.Map // from its number to a layer's tar

// content returns the tar of one of the layers.
func content(n int) []byte {
	b, ok := contentCache.Load(n)
	if !ok {
		b, _ = contentCache.LoadOrStore(n, makeContent(n))
	}
	return b.([]byte)
}

// makeContent makes a layer of some small files, one that several goroutines write, and what hides files of other layers.
func makeContent(n int) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h *tar.Header, data []byte) {
		h.Size, h.ModTime, h.Format = int64(len(data)), time.Unix(1700000000, 0), tar.FormatPAX
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write(data); err != nil {
			panic(err)
		}
	}
	add(&tar.Header{Name: "shared/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	add(&tar.Header{Name: fmt.Sprintf("shared/%d", n), Typeflag: tar.TypeReg, Mode: 0o644}, []byte(fmt.Sprint("layer ", n)))
	add(&tar.Header{Name: fmt.Sprintf("shared/.wh.%d", n-1), Typeflag: tar.TypeReg, Mode: 0o644}, nil)
	add(&tar.Header{Name: fmt.Sprintf("own%d/", n), Typeflag: tar.TypeDir, Mode: 0o700}, nil)
	add(&tar.Header{Name: fmt.Sprintf("own%d/link", n), Typeflag: tar.TypeSymlink, Linkname: "../shared"}, nil)
	large := make([]byte, n%3*300<<10)
	if _, err := io.ReadFull(rand.NewChaCha8([32]byte{byte(n)}), large); err != nil {
		panic(err)
	}
	add(&tar.Header{Name: fmt.Sprintf("own%d/large", n), Typeflag: tar.TypeReg, Mode: 0o600}, large)
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// broken returns a reader of the first half of a layer, and then an error, like that of a connection that broke off.
func broken(layer []byte) io.Reader {
	return io.MultiReader(bytes.NewReader(layer[:len(layer)/2]), iotest.ErrReader(errors.New("connection reset")))
}
