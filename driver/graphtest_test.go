package driver_test

import (
	"testing"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/drivers/graphtest"

	"github.com/crio-erofs/crio-erofs/driver"
)

// TestGraph runs the suite that containers/storage has for its drivers, in all ways that this driver can mount.
func TestGraph(t *testing.T) {
	needRoot(t)
	for name, mode := range map[string]struct {
		options []string
		prepare func(graphdriver.Driver)
	}{
		"auto": {options: []string{"erofs.mount=auto"}},
		"loop": {options: []string{"erofs.mount=loop"}},
		"old kernel": {options: []string{"erofs.mount=loop"}, prepare: func(d graphdriver.Driver) {
			driver.UseMountString(d.(*graphtest.Driver).Driver)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			// The suite keeps one driver for as long as somebody has it.
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
