package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/crio-erofs/crio-erofs/test/crio"
)

// printer lays out what the demo says.
type printer struct {
	out    io.Writer
	abbrev []string // pairs: a long name, and what lines prints instead
}

// call makes lines print short instead of long from now on.
func (p *printer) call(long, short string) { p.abbrev = append([]string{long, short}, p.abbrev...) }

// step starts a part of the demo.
func (p *printer) step(title string) { fmt.Fprintf(p.out, "\n==> %s\n", title) }

// say prints a sentence.
func (p *printer) say(format string, args ...any) { fmt.Fprintf(p.out, "\n    "+format+"\n", args...) }

// item prints a name and a value.
func (p *printer) item(name, value string) { fmt.Fprintf(p.out, "    %-12s %s\n", name, value) }

// lines prints a text, indented.
func (p *printer) lines(text string) {
	text = strings.NewReplacer(p.abbrev...).Replace(text)
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		fmt.Fprintf(p.out, "    %s", line)
	}
}

// command prints a command that a container ran, and what came of it.
func (p *printer) command(command string, r crio.Result) {
	fmt.Fprintf(p.out, "    $ %s\n", command)
	if text := r.Stdout + r.Stderr; text != "" {
		p.lines(text)
	}
	if r.ExitCode != 0 {
		fmt.Fprintf(p.out, "    (exit code %d)\n", r.ExitCode)
	}
}

// table prints rows with aligned columns.
func (p *printer) table(rows [][]string) {
	w := tabwriter.NewWriter(p.out, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(w, "    %s\n", strings.Join(row, "\t"))
	}
	w.Flush()
}

// bytesize writes a size for people.
func bytesize(size int64) string {
	if size < 1<<20 {
		return fmt.Sprintf("%d KiB", size>>10)
	}
	return fmt.Sprintf("%.1f MiB", float64(size)/(1<<20))
}
