package erofs

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hostile are layers that compress to next to nothing and go on for ever, or so long as to fill the memory of any
// machine if nothing bounds it. entry writes the one of this number; ends says that it is meant to be read to its end.
var hostile = map[string]struct {
	entry func(w *tar.Writer, i int) error
	ends  int // 0: the layer must be refused; else after so many entries it ends, and must be taken
	tarfs bool
}{
	"names":       {entry: func(w *tar.Writer, i int) error { return header(w, tar.TypeReg, fmt.Sprint(i), nil) }},
	"directories": {entry: func(w *tar.Writer, i int) error { return header(w, tar.TypeDir, fmt.Sprint("d", i), nil) }},
	"deep": {entry: func(w *tar.Writer, i int) error {
		return header(w, tar.TypeReg, fmt.Sprint(i)+strings.Repeat("/d", 2000), nil)
	}},
	"long names": {entry: func(w *tar.Writer, i int) error { return header(w, tar.TypeReg, fmt.Sprintf("%0250d", i), nil) }},
	"small files": {entry: func(w *tar.Writer, i int) error {
		data := fmt.Sprint(i)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: data, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := io.WriteString(w, data)
		return err
	}},
	"link targets": {entry: func(w *tar.Writer, i int) error {
		return link(w, tar.TypeSymlink, fmt.Sprint(i), strings.Repeat("t", 4000))
	}},
	"hard links": {entry: hardLinks},
	"whiteouts":  {entry: func(w *tar.Writer, i int) error { return header(w, tar.TypeReg, fmt.Sprintf(".wh.%0240d", i), nil) }},
	"deep whiteouts": {entry: func(w *tar.Writer, i int) error {
		return header(w, tar.TypeReg, strings.Repeat("d/", 2000)+".wh."+fmt.Sprint(i), nil)
	}},
	"opaque": {entry: func(w *tar.Writer, i int) error { return header(w, tar.TypeReg, fmt.Sprint(i)+"/.wh..wh..opq", nil) }},
	"attributes": {entry: func(w *tar.Writer, i int) error {
		return header(w, tar.TypeReg, fmt.Sprint(i), map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 60000)})
	}},
	"many attributes": {entry: func(w *tar.Writer, i int) error {
		records := map[string]string{}
		for j := range 4000 {
			records["SCHILY.xattr.user."+strconv.Itoa(j)] = "v"
		}
		return header(w, tar.TypeReg, fmt.Sprint(i), records)
	}},
	"sparse files apart": {tarfs: true, entry: func(w *tar.Writer, i int) error { return sparseMap(w, i, 1) }},
	"dirty padding":      {tarfs: true, entry: dirty},

	// Large headers of which little is kept: the rest must go.
	"an attribute in a large header": {ends: 150, entry: func(w *tar.Writer, i int) error {
		return header(w, tar.TypeReg, fmt.Sprint(i), map[string]string{"SCHILY.xattr.user.x": "v", "comment": megabyte})
	}},
	"a name in a large header": {ends: 150, entry: func(w *tar.Writer, i int) error {
		return header(w, tar.TypeReg, fmt.Sprintf("%0150d", i), map[string]string{"comment": megabyte})
	}},
	"a whiteout in a large header": {ends: 150, entry: func(w *tar.Writer, i int) error {
		return header(w, tar.TypeReg, fmt.Sprintf("%0150d/.wh.%0120d", i, i), map[string]string{"comment": megabyte})
	}},
	"a link in a large header": {ends: 150, entry: func(w *tar.Writer, i int) error {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprint(i), Linkname: strings.Repeat("t", 150),
			Format: tar.FormatPAX, PAXRecords: map[string]string{"comment": megabyte}})
	}},
	"global headers": {ends: 150, entry: func(w *tar.Writer, _ int) error {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": megabyte}})
	}},
	"many records": {ends: 5, entry: func(w *tar.Writer, i int) error {
		records := map[string]string{}
		for j := range 60000 {
			records["c."+strconv.Itoa(j)] = "v"
		}
		return header(w, tar.TypeReg, fmt.Sprint(i), records)
	}},
	"one name again and again": {ends: 50000, entry: func(w *tar.Writer, _ int) error { return header(w, tar.TypeReg, "f", nil) }},
	"large sparse maps":        {ends: 20, entry: func(w *tar.Writer, i int) error { return sparseMap(w, i, 40000) }},
}

var megabyte = strings.Repeat("c", 1<<20-4096)

func header(w *tar.Writer, kind byte, name string, records map[string]string) error {
	return w.WriteHeader(&tar.Header{Typeflag: kind, Name: name, PAXRecords: records, Format: tar.FormatPAX})
}

func link(w *tar.Writer, kind byte, name, target string) error {
	return w.WriteHeader(&tar.Header{Typeflag: kind, Name: name, Linkname: target})
}

func hardLinks(w *tar.Writer, i int) error {
	if i == 0 {
		return header(w, tar.TypeReg, "f", nil)
	}
	return link(w, tar.TypeLink, fmt.Sprint(i), "f")
}

// sparseMap writes a sparse file in the form 1.0, whose map is in front of the data: so many times a byte and a hole.
func sparseMap(w *tar.Writer, i, count int) error {
	var b strings.Builder
	fmt.Fprintln(&b, count)
	for n := range count {
		fmt.Fprintf(&b, "%d\n1\n", 2*n)
	}
	b.WriteString(strings.Repeat("\x00", -b.Len()&511))
	b.WriteString(strings.Repeat("x", count))
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i), Size: int64(b.Len()), Format: tar.FormatPAX,
		PAXRecords: map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": fmt.Sprint(i),
			"GNU.sparse.realsize": strconv.Itoa(2 * count)}})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// dirty writes a file of a byte. The writer under w makes the rest of its block something else than zeros.
func dirty(w *tar.Writer, i int) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i), Size: 1}); err != nil {
		return err
	}
	_, err := w.Write([]byte("x"))
	return err
}

// dirtyWriter puts something behind the data of files of one byte: archive/tar writes the zeros there in one piece.
type dirtyWriter struct{ w io.Writer }

func (d dirtyWriter) Write(b []byte) (int, error) {
	if len(b) == 511 {
		return d.w.Write([]byte(strings.Repeat("Z", 511)))
	}
	return d.w.Write(b)
}

const (
	memoryVariable = "CRIO_EROFS_TEST_MEMORY" // names the layer that a child process is to read
	memoryLimit    = 32 << 20
)

// TestMemory reads each of the hostile layers in a process of its own and wants its memory bounded as docs/format.md
// says: twice the bound of a tree, since the garbage collector lets as much garbage be, and a constant.
func TestMemory(t *testing.T) {
	if name := os.Getenv(memoryVariable); name != "" {
		readHostile(t, name)
		return
	}
	for name := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestMemory$")
			cmd.Env = append(os.Environ(), memoryVariable+"="+name, "GOGC=100", "GOMEMLIMIT=off")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10 // in KiB on Linux, getrusage(2)
			const most = 2*memoryLimit + 48<<20
			t.Logf("peak %d MiB", peak>>20)
			if peak > most {
				t.Errorf("%d MiB of memory, want at most %d", peak>>20, most>>20)
			}
		})
	}
}

// readHostile reads a layer as a child process.
func readHostile(t *testing.T, name string) {
	maxMemory = memoryLimit
	layer := hostile[name]
	r, pipe := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(pipe, 1<<16)
		var out io.Writer = buffered
		if layer.tarfs {
			out = dirtyWriter{buffered}
		}
		w := tar.NewWriter(out)
		for i := 0; layer.ends == 0 || i < layer.ends; i++ {
			if err := layer.entry(w, i); err != nil {
				pipe.CloseWithError(err) // the reader's, if that has gone
				return
			}
		}
		pipe.CloseWithError(errors.Join(w.Close(), buffered.Flush()))
	}()
	var err error
	start := time.Now()
	if layer.tarfs {
		_, err = ReadTarfs(io.Discard, r, nil)
	} else {
		err = readAndWrite(r)
	}
	r.CloseWithError(io.ErrClosedPipe)
	switch {
	case layer.ends == 0 && (err == nil || !strings.Contains(err.Error(), "MiB of memory")):
		t.Errorf("%s: %v after %v", name, err, time.Since(start))
	case layer.ends > 0 && err != nil:
		t.Errorf("%s: %v", name, err)
	}
}

func readAndWrite(r io.Reader) error {
	a, err := ReadAligned(&discardData{Writer: io.Discard}, r)
	if err != nil {
		return err
	}
	_, err = a.WriteMetadata(io.Discard)
	return err
}
