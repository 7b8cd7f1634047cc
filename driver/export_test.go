package driver

import graphdriver "github.com/containers/storage/drivers"

// UseMountString makes a driver mount overlays as on kernels before Linux 6.7.
func UseMountString(d graphdriver.Driver) { d.(*Driver).appendLowers = false }

// Home returns where a driver's store is.
func Home(d graphdriver.Driver) string { return d.(*Driver).home }
