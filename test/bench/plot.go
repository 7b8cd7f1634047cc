package main

import (
	"fmt"
	"html"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// newPlotCommand draws a run that "bench --format json" has written down.
func newPlotCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "plot RESULT.json DIRECTORY",
		Short: "Draw the figures of a run",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := readResult(args[0])
			if err != nil {
				return err
			}
			for name, drawing := range map[string]string{"build.svg": r.drawBuilds(), "storage.svg": r.drawStorage()} {
				if err := os.WriteFile(filepath.Join(args[1], name), []byte(drawing), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// bar is one bar of a chart.
type bar struct {
	label string
	value float64
	text  string // at its end
	ours  bool
}

// group is bars under a heading.
type group struct {
	heading string
	bars    []bar
}

// drawBuilds has a bar for each contender's time with each input, as multiples of the volume's build.
func (r *result) drawBuilds() string {
	var groups []group
	for _, t := range r.Conversions {
		g := group{heading: fmt.Sprintf("%s, %s", t.Input.Title, megabytes(t.Input.Bytes))}
		for _, row := range t.Rows {
			g.bars = append(g.bars, bar{
				label: row.Name, value: row.Ratio, text: fmt.Sprintf("%.2f×  (%s)", row.Ratio, seconds(row.Wall)),
				ours: strings.HasPrefix(row.Name, "crio-erofs"),
			})
		}
		groups = append(groups, g)
	}
	return draw("Time to make a verified volume of a layer's tar",
		"as multiples of crio-erofs build without diffID; shorter is better. "+r.Machine, groups, false)
}

// drawStorage has a bar for each thing that CRI-O does with a storage driver: how many times as fast as overlay it is.
func (r *result) drawStorage() string {
	byFS := map[string]map[string]*storageRow{}
	for _, row := range r.Storage {
		if byFS[row.FS] == nil {
			byFS[row.FS] = map[string]*storageRow{}
		}
		byFS[row.FS][row.Driver] = row
	}
	var groups []group
	for _, fs := range slices.Sorted(maps.Keys(byFS)) {
		ours, overlay := byFS[fs]["erofs"], byFS[fs]["overlay"]
		if ours == nil || overlay == nil {
			continue
		}
		g := group{heading: "on " + fs}
		for _, what := range slices.Sorted(maps.Keys(ours.Times)) {
			if theirs := overlay.Times[what]; theirs > 0 {
				ratio := theirs / ours.Times[what]
				g.bars = append(g.bars, bar{
					label: what, value: ratio, ours: ratio >= 1,
					text: fmt.Sprintf("%.2f×  (%s; overlay %s)", ratio, seconds(ours.Times[what]), seconds(theirs)),
				})
			}
		}
		groups = append(groups, g)
	}
	return draw("The driver against overlay",
		"times as fast as containers/storage's overlay driver; right of the line is faster. "+r.Machine, groups, true)
}

// The measures of a chart, in pixels.
const (
	chartWidth, labelWidth, textWidth = 900, 300, 210
	barHeight, barGap, groupGap       = 18, 6, 34
)

// chartStyle makes a chart readable on light and dark pages: it brings its own background.
const chartStyle = `  .card { fill: #ffffff } text { fill: #1f2328; font: 13px system-ui, "DejaVu Sans", sans-serif }
  .small { fill: #4b535c; font-size: 12px } .head { font-weight: 600 } .end { text-anchor: end }
  .ours { fill: #2f7d4f } .theirs { fill: #9aa4af } .axis { stroke: #57606a; stroke-width: 1 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117 } text { fill: #e6edf3 } .small { fill: #a9b3bd }
    .ours { fill: #4cb97a } .theirs { fill: #5b6570 } .axis { stroke: #8b949e }
  }
`

// draw makes an SVG of bars. With around1 they go from 1 to either side, on a logarithmic scale; else from 0.
func draw(title, subtitle string, groups []group, around1 bool) string {
	room := float64(chartWidth - labelWidth - textWidth)
	low, high := 0.0, 1.0
	scale := func(v float64) float64 { return v }
	if around1 {
		scale = func(v float64) float64 { return math.Log(v) }
	}
	for _, g := range groups {
		for _, b := range g.bars {
			low, high = min(low, scale(b.value)), max(high, scale(b.value))
		}
	}
	at := func(v float64) float64 { return labelWidth + (v-low)/(high-low)*room }
	var body strings.Builder
	y := 64
	for _, g := range groups {
		fmt.Fprintf(&body, "<text class=\"head\" x=\"16\" y=\"%d\">%s</text>\n", y+13, html.EscapeString(g.heading))
		y += 24
		top := y
		for _, b := range g.bars {
			class := "theirs"
			if b.ours {
				class = "ours"
			}
			from, to := at(0), at(scale(b.value))
			fmt.Fprintf(&body, "<text class=\"end\" x=\"%d\" y=\"%d\">%s</text>\n", labelWidth-8, y+13, html.EscapeString(b.label))
			fmt.Fprintf(&body, "<rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", class, min(from, to), y,
				math.Abs(to-from), barHeight)
			fmt.Fprintf(&body, "<text class=\"small\" x=\"%.1f\" y=\"%d\">%s</text>\n", max(from, to)+6, y+13,
				html.EscapeString(b.text))
			y += barHeight + barGap
		}
		fmt.Fprintf(&body, "<line class=\"axis\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n", at(0), top-3, at(0), y-3)
		y += groupGap - barGap
	}
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\">\n<title>%s</title>\n"+
		"<style>\n%s</style>\n<rect class=\"card\" width=\"%d\" height=\"%d\" rx=\"10\"/>\n"+
		"<text class=\"head\" x=\"16\" y=\"28\">%s</text>\n<text class=\"small\" x=\"16\" y=\"48\">%s</text>\n%s</svg>\n",
		chartWidth, y, html.EscapeString(title), chartStyle, chartWidth, y, html.EscapeString(title),
		html.EscapeString(subtitle), body.String())
}
