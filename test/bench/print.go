package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

func (r *result) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// printText prints tables for people. Times are those of the best turns.
func (r *result) printText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s; %.0f s\n", r.Machine, r.Seconds)
	printStorage(w, r.Storage)
	for _, t := range r.Conversions {
		t.print(w)
	}
	if r.Size != nil {
		r.printOthers(w)
	}
	fmt.Fprintln(w)
	for _, g := range r.Goals {
		g.print(w)
	}
	return w.Flush()
}

func (r *result) printOthers(w io.Writer) {
	s := r.Size
	fmt.Fprintf(w, "\nsize without a tree: %s; mkfs.erofs -Enoinline_data: %s; file data in blocks: %s\n",
		megabytes(s.Own), megabytes(s.Mkfs), megabytes(s.Data))
	fmt.Fprintf(w, "cold find -ls: %s; mkfs.erofs' default image: %s\n", seconds(r.Listing.Own.Wall),
		seconds(r.Listing.Mkfs.Wall))
	if m := r.Memory; m != nil {
		fmt.Fprintf(w, "build of %s: %s, %.0f MiB of memory\n", m.Name, seconds(m.Wall), mib(m.RSS))
	}
	if r.Merge != nil {
		r.Merge.print(w)
	}
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %d entries, tar of %s\n", t.Input.Title, t.Input.Entries, megabytes(t.Input.Bytes))
	fmt.Fprintln(w, "\tbest\t÷ build\tmedian\tCPU time\tpeak memory\toutput\tundisturbed")
	for _, r := range t.Rows {
		fmt.Fprintf(w, "  %s\t%s\t%.2f\t%s\t%s\t%.0f MiB\t%s\t%d of %d\n", r.Name, seconds(r.Wall), r.Ratio,
			seconds(r.Median), seconds(r.CPU), mib(r.RSS), megabytes(r.Size), r.Quiet, len(r.Turns))
	}
}

func (m *mergeResult) print(w io.Writer) {
	fmt.Fprintf(w, "\nmerge of %d layers on XFS\n\ttime\tCPU time\tpeak memory\tshared\tcopied\n", mergedLayers)
	for _, r := range m.Layers {
		fmt.Fprintf(w, "  %d files, %s\t%s\t%s\t%.0f MiB\t%s\t%s\n", r.Files, megabytes(r.Bytes), seconds(r.Turn.Wall),
			seconds(r.Turn.CPU), mib(r.Turn.RSS), megabytes(r.Shared), megabytes(r.Copied))
	}
}

func (g goal) print(w io.Writer) {
	verdict, bound := "reached", "at most"
	if !g.Reached {
		verdict = "MISSED"
	}
	if g.AtLeast {
		bound = "at least"
	}
	fmt.Fprintf(w, "%s\t%.3g%s %s\t(goal: %s %g%s)\n", verdict, g.Got, g.Unit, g.What, bound, g.Want, g.Unit)
}

func seconds(s float64) string {
	if s < 0.1 {
		return fmt.Sprintf("%.1f ms", s*1000)
	}
	return fmt.Sprintf("%.2f s", s)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
