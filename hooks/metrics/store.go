package metrics

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crio-erofs/crio-erofs/driver/counters"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// storeName is the driver's directory in the graph root (driver.Name, which would bring all of containers/storage along).
const storeName = "erofs"

// configCollector says, at each scrape, whether the configuration file can be used.
func (m *Metrics) configCollector() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "configuration_valid",
		Help: "1 if the configuration file can be used, 0 if containers of this project's handlers are refused because it cannot.",
	}, func() float64 {
		if _, err := modes.Load(*m.config.Load()); err != nil {
			return 0
		}
		return 1
	})
}

// storeCollector reads, at each scrape, what the driver has counted, and what is in the store. Where there is no store it
// has nothing.
type storeCollector struct{ metrics *Metrics }

var (
	kindLabel = []string{"kind"}

	made = describe("volumes_made_total", "Volumes that the driver made while images were pulled (layer), or for an image's first "+
		"container (image).", kindLabel)
	reused = describe("volumes_reused_total", "Volumes that the driver made and found in the store already: the same layer of another "+
		"image.", kindLabel)
	failed    = describe("volume_failures_total", "Volumes that the driver began and could not make, interrupted pulls included.", kindLabel)
	madeBytes = describe("volumes_made_bytes_total", "Sizes of the volumes that the driver made, hash trees included.", kindLabel)
	seconds   = describe("volumes_made_seconds_total", "Time that making volumes took; of layers, with the time for which the pull kept "+
		"the driver waiting.", kindLabel)
	since   = describe("store_counting_since_timestamp_seconds", "When the driver's counters began, since the epoch.", nil)
	volumes = describe("store_volumes", "Volumes in the store.", nil)
	size    = describe("store_volume_bytes", "Sizes of the volumes in the store. Image volumes share blocks with those of layers where "+
		"the file system can.", nil)
)

func describe(name, help string, labels []string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

func (c storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{made, reused, failed, madeBytes, seconds, since, volumes, size} {
		ch <- d
	}
}

func (c storeCollector) Collect(ch chan<- prometheus.Metric) {
	home := filepath.Join(*c.metrics.graphRoot.Load(), storeName)
	if _, err := os.Stat(home); err != nil {
		return
	}
	c.collectCounters(ch, home)
	n, bytes, err := measureStore(filepath.Join(home, "volumes"))
	if err != nil {
		ch <- prometheus.NewInvalidMetric(volumes, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(volumes, prometheus.GaugeValue, float64(n))
	ch <- prometheus.MustNewConstMetric(size, prometheus.GaugeValue, float64(bytes))
}

func (c storeCollector) collectCounters(ch chan<- prometheus.Metric, home string) {
	counted, err := counters.Read(filepath.Join(home, counters.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		counted = &counters.Counters{} // nothing was made yet
	} else if err != nil {
		return // the driver begins anew with its next volume
	}
	for kind, b := range map[string]counters.Built{"layer": counted.Layers, "image": counted.Images} {
		for d, value := range map[*prometheus.Desc]float64{
			made: float64(b.Made), reused: float64(b.Reused), failed: float64(b.Failed), madeBytes: float64(b.Bytes),
			seconds: b.Took.Seconds(),
		} {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, kind)
		}
	}
	if !counted.Since.IsZero() {
		ch <- prometheus.MustNewConstMetric(since, prometheus.GaugeValue, float64(counted.Since.Unix()))
	}
}

// measureStore counts volumes and adds up their sizes, without a lock: some may come or go meanwhile.
func measureStore(dir string) (n, bytes int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	for _, e := range entries {
		if fi, err := os.Lstat(filepath.Join(dir, e.Name(), volume.FileName)); err == nil {
			n, bytes = n+1, bytes+fi.Size()
		}
	}
	return n, bytes, nil
}
