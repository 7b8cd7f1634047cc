package driver_test

import (
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/drivers/graphtest"

	"github.com/crio-erofs/crio-erofs/driver"
)

// TestGraph runs the suite that containers/storage has for its drivers, in all ways that this driver can keep and mount
// volumes.
func TestGraph(t *testing.T) {
	needRoot(t)
	for name, mode := range map[string]struct {
		place   func(testing.TB) string // default: the temporary directory
		options []string
		prepare func(graphdriver.Driver)
	}{
		"file": {options: []string{"erofs.mount=auto"}},
		"loop": {options: []string{"erofs.mount=loop"}},
		"old kernel": {place: tmpfs, options: []string{"erofs.mount=loop"}, prepare: func(d graphdriver.Driver) {
			driver.UseMountString(d.(*graphtest.Driver).Driver)
		}},
		"image volumes": {place: xfs},
		"btrfs":         {place: btrfs},
		"copied images": {place: ext4, options: []string{"erofs.image_volume=copy", "erofs.mount=loop"}},
		"tmpfs":         {place: tmpfs},
		"tarfs":         {place: xfs, options: []string{"erofs.layout=tarfs"}},
		"tarfs by loop": {place: tmpfs, options: []string{"erofs.layout=tarfs", "erofs.mount=loop"}},
		"no trees":      {place: xfs, options: []string{"erofs.verity=off"}},
		"verify":        {place: xfs, options: []string{"erofs.verify=on-mount"}},
	} {
		t.Run(name, func(t *testing.T) {
			if mode.place != nil {
				t.Setenv("TMPDIR", mode.place(t))
			}
			// The suite keeps one driver for as long as somebody has it, and skips what it cannot open.
			if _, err := openDriver(t.TempDir(), mode.options...); err != nil {
				t.Fatal(err)
			}
			d := graphtest.GetDriver(t, driver.Name, mode.options...)
			if mode.prepare != nil {
				mode.prepare(d)
			}
			graphSuite(t)
		})
	}
}

func graphSuite(t *testing.T) {
	for name, test := range map[string]func(testing.TB, string, ...string){
		"CreateEmpty":        graphtest.DriverTestCreateEmpty,
		"CreateBase":         graphtest.DriverTestCreateBase,
		"CreateSnap":         graphtest.DriverTestCreateSnap,
		"CreateFromTemplate": graphtest.DriverTestCreateFromTemplate,
		"Changes":            graphtest.DriverTestChanges,
		"Echo":               graphtest.DriverTestEcho,
		"ListLayers":         graphtest.DriverTestListLayers,
	} {
		t.Run(name, func(t *testing.T) { test(t, driver.Name) })
	}
	t.Run("DiffApply", func(t *testing.T) { graphtest.DriverTestDiffApply(t, 10, driver.Name) })
	t.Run("128Layers", func(t *testing.T) { graphtest.DriverTestDeepLayerRead(t, 128, driver.Name) })
}
