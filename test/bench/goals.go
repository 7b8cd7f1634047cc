package main

import "fmt"

// result is all that was measured.
type result struct {
	Machine     string         `json:"machine"`
	Seconds     float64        `json:"seconds"`
	Conversions []*table       `json:"conversions"`
	Size        *sizeResult    `json:"size"`
	Listing     *listingResult `json:"listing"`
	Memory      *row           `json:"memory,omitempty"`
	Merge       *mergeResult   `json:"merge,omitempty"`
	Storage     []*storageRow  `json:"storage"`
	Goals       []goal         `json:"goals"`
}

// goal is one thing that the project promises, and whether it holds here.
type goal struct {
	What    string  `json:"what"`
	Unit    string  `json:"unit,omitempty"`
	Want    float64 `json:"want"`
	AtLeast bool    `json:"at_least"` // otherwise at most
	Got     float64 `json:"got"`
	Reached bool    `json:"reached"`
}

func atLeast(want, got float64, what string) goal {
	return goal{What: what, Unit: "×", Want: want, AtLeast: true, Got: got, Reached: got >= want}
}

func atMost(want, got float64, unit, what string) goal {
	return goal{What: what, Unit: unit, Want: want, Got: got, Reached: got <= want}
}

func (r *result) table(name string) *table {
	for _, t := range r.Conversions {
		if t.Input.Name == name {
			return t
		}
	}
	return nil
}

// judge holds what was measured against the goals that it concerns.
func (r *result) judge() []goal {
	var goals []goal
	for _, want := range []struct {
		input, peer string
		times       float64
	}{
		{debian, nameMkfs, 3}, {large, nameMkfs, 3}, {npm, nameMkfs, 2},
		{debian, nameTar2ext4, 2.2}, {large, nameTar2ext4, 2.2},
	} {
		if t := r.table(want.input); t != nil {
			goals = append(goals, atLeast(want.times, t.row(want.peer).Ratio,
				fmt.Sprintf("faster than %s on %s", want.peer, t.Input.Title)))
		}
	}
	if t := r.table(large); t != nil {
		goals = append(goals, atMost(1.5, 1/t.row(nameCat).Ratio, "×", "the time of cat on "+t.Input.Title))
	}
	for _, name := range []string{debian, large} {
		if t := r.table(name); t != nil {
			goals = append(goals, atMost(64, mib(t.row(nameBuild).RSS), " MiB", "peak memory on "+t.Input.Title))
		}
	}
	if r.Memory != nil {
		goals = append(goals, atMost(160, mib(r.Memory.RSS), " MiB", "peak memory with "+r.Memory.Name))
	}
	goals = append(goals,
		atMost(1, float64(r.Size.Own)/float64(r.Size.Mkfs), "×", "the size of mkfs.erofs -Enoinline_data's image"),
		atLeast(2, r.Listing.Mkfs.Wall/r.Listing.Own.Wall, "faster cold find -ls than on mkfs.erofs' default image"))
	if r.Merge != nil {
		goals = append(goals, r.Merge.judge()...)
	}
	return append(goals, judgeStorage(r.Storage)...)
}

func (m *mergeResult) judge() []goal {
	full, fewerBytes := m.Layers[0], m.Layers[1]
	return []goal{
		atMost(60, full.Turn.CPU*1000, " ms", fmt.Sprintf("CPU time to merge %d layers of %s together", mergedLayers,
			megabytes(full.Bytes))),
		atMost(1.5, full.Turn.CPU/fewerBytes.Turn.CPU, "×",
			"the CPU time of merging as many files of a fourth of the bytes"),
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
