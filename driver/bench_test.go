package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/drivers/overlay"

	"github.com/crio-erofs/crio-erofs/driver"
)

// drivers are this one and, to compare with, the one that everybody has.
var drivers = map[string]func(home string, opts graphdriver.Options) (graphdriver.Driver, error){
	"erofs": driver.Init,
	"erofs by layers": func(home string, opts graphdriver.Options) (graphdriver.Driver, error) {
		opts.DriverOptions = []string{"erofs.image_volume=off"}
		return driver.Init(home, opts)
	},
	"overlay": func(home string, opts graphdriver.Options) (graphdriver.Driver, error) {
		opts.DriverOptions = []string{"overlay.skip_mount_home=true"} // does not make its home a mount
		return overlay.Init(home, opts)
	},
}

func benchDrivers(b *testing.B, bench func(b *testing.B, d graphdriver.Driver)) {
	if testing.Short() {
		b.Skip("mounts file systems")
	}
	for name, open := range drivers {
		b.Run(name, func(b *testing.B) {
			d, err := open(b.TempDir(), graphdriver.Options{RunRoot: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() {
				if err := d.Cleanup(); err != nil {
					b.Error(err)
				}
			})
			bench(b, d)
		})
	}
}

// BenchmarkApplyDiff pulls a layer of 4000 files of 16 KiB.
func BenchmarkApplyDiff(b *testing.B) {
	var files []file
	for i := range 4000 {
		files = append(files, file{name: fmt.Sprintf("f%d", i), content: strings.Repeat(fmt.Sprintf("%016d", i), 1024)})
	}
	layer := makeTar(b, files...)
	benchDrivers(b, func(b *testing.B, d graphdriver.Driver) {
		b.SetBytes(int64(len(layer)))
		for b.Loop() {
			apply(b, d, "layer", "", layer)
			if err := d.Remove("layer"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkContainer makes, mounts, unmounts and removes a container, the only one of its image or one of two. The time
// is what a busy machine makes of it; cpu-ns is what it takes of a processor, start-cpu-ns until it is mounted.
func BenchmarkContainer(b *testing.B) {
	for _, layers := range []int{1, 10, 100} {
		for _, first := range []bool{true, false} {
			b.Run(fmt.Sprintf("layers=%d/first=%v", layers, first), func(b *testing.B) {
				benchDrivers(b, func(b *testing.B, d graphdriver.Driver) { benchContainer(b, d, layers, first) })
			})
		}
	}
}

func benchContainer(b *testing.B, d graphdriver.Driver, layers int, first bool) {
	top := ""
	for i := range layers {
		id := fmt.Sprintf("layer%d", i)
		apply(b, d, id, top, makeTar(b, file{name: id, content: id}))
		top = id
	}
	if !first {
		if err := d.CreateReadWrite("other", top, nil); err != nil {
			b.Fatal(err)
		}
		get(b, d, "other")
		defer func() {
			if err := d.Put("other"); err != nil {
				b.Error(err)
			}
		}()
	}
	container(b, d, top) // makes the image volume
	before, start := cpuTime(b), int64(0)
	for b.Loop() {
		start += container(b, d, top)
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(start)/float64(b.N), "start-cpu-ns/op")
}

// cpuTime returns the processor time that this process has used, in itself and in the kernel.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// container returns the processor time until it is mounted.
func container(b *testing.B, d graphdriver.Driver, image string) (start int64) {
	before := cpuTime(b)
	if err := d.CreateReadWrite("c", image, nil); err != nil {
		b.Fatal(err)
	}
	get(b, d, "c")
	start = cpuTime(b) - before
	if err := errors.Join(d.Put("c"), d.Remove("c")); err != nil {
		b.Fatal(err)
	}
	return start
}

// BenchmarkInit opens a store that holds 200 layers.
func BenchmarkInit(b *testing.B) {
	d, root := newDriver(b)
	for i := range 200 {
		id := fmt.Sprintf("layer%d", i)
		if err := d.Create(id, "", nil); err != nil {
			b.Fatal(err)
		}
		diff := makeTar(b, file{name: "f", content: id})
		if _, err := d.ApplyDiff(id, "", graphdriver.ApplyDiffOpts{Diff: bytes.NewReader(diff)}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := openDriver(root); err != nil {
			b.Fatal(err)
		}
	}
}
