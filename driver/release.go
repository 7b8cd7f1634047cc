package driver

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/moby/sys/mountinfo"
)

// linger is how long host mounts stay when their last user is gone. Containers often come again at once: after a crash,
// or with a new configuration. And where many stop, the mounts are looked at once and not for each of them. It is a
// variable for tests.
var linger = 5 * time.Second

// releaseSoon has the host mounts removed, a little later, that no mounted layer needs then. Those of dm-verity devices
// go at once: nobody should wonder whose they are. The caller holds the store's lock.
func (d *Driver) releaseSoon() error {
	if d.options.hostVerity {
		return d.releaseMounts()
	}
	d.releaseLater()
	return nil
}

// releaseLater has releaseLingering called once, a little later. The caller holds the store's lock.
func (d *Driver) releaseLater() {
	if d.lingering == nil {
		d.lingering = time.AfterFunc(linger, d.releaseLingering)
	}
}

// sweepLater has what a removed layer could not take with it, its volume or a host mount, removed with the next host
// mounts. To fail would be wrong: the layer is gone, and containers/storage would have an image stand on it that it pulls
// next. The caller holds the store's lock.
func (d *Driver) sweepLater(err error) {
	if err == nil {
		return
	}
	log.WithError(err).Warn("What a removed layer leaves could not be removed, trying again later")
	d.unswept = true
	d.releaseLater()
}

// sweep does what sweepLater has put off. What still cannot go is no reason for others' host mounts to stay, or for a
// container not to stop.
func (d *Driver) sweep() {
	if !d.unswept {
		return
	}
	if err := d.recoverVolumes(); err != nil {
		log.WithError(err).Warn("What a removed layer has left stays until a container stops again")
		return
	}
	d.unswept = false
}

// releaseLingering does what releaseSoon and sweepLater have put off.
func (d *Driver) releaseLingering() {
	if !exists(d.lockPath()) {
		return // the store has been deleted; to lock it would be a panic
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	if d.lingering == nil {
		return // somebody was faster
	}
	if err := d.releaseMounts(); err != nil {
		log.WithError(err).Warn("Host mounts that no container needs may stay until another container stops")
	}
}

// releaseMounts removes the host mounts that no mounted layer needs. Overlays that are on a host mount keep what they
// need of it. The caller holds the store's lock.
//
// Only what this mount namespace sees is looked at, and taken away. So the mount point's directory must stay: removing
// it would take the mount out of all other namespaces, in which containers of ours may need it.
func (d *Driver) releaseMounts() error {
	if d.lingering != nil {
		d.lingering.Stop()
		d.lingering = nil
	}
	d.sweep()
	mounted, err := d.mounted()
	if err != nil {
		return err
	}
	var names []string
	for _, path := range mounted {
		if name := filepath.Base(path); path == d.hostMount(name) && isVolumeName(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	used, err := d.inUse(mounted)
	if err != nil {
		// Better a mount too many than one too few. Stopping a container must not fail for what is wrong with another.
		log.WithError(err).Warn("Keeping host mounts that may not be needed, until a container stops again")
		return nil
	}
	var errs []error
	for _, name := range names {
		if !used[name] {
			errs = append(errs, d.retire(name))
		}
	}
	return errors.Join(errs...)
}

// retire takes away a host mount that no mounted layer needs, and keeps a copy for the next one. With dm-verity on the
// host it does not: nobody should wonder whose devices are left, and the next container's data be read and checked anew.
func (d *Driver) retire(name string) error {
	if d.options.hostVerity {
		return unmount(d.hostMount(name))
	}
	d.kept.keep(name, d.homeOf(name).volumePath(name), d.hostMount(name))
	return unmount(d.hostMount(name))
}

// inUse returns the volumes of all layers that are among the mounts. A container's image volume and its
// layers' volumes all count, whichever of them it was mounted with.
func (d *Driver) inUse(mounted []string) (map[string]bool, error) {
	used, seen := map[string]bool{}, map[string]bool{}
	for _, path := range mounted {
		top := d.mountedLayer(path)
		// Chains share most of their layers, so each layer is read once.
		for id := top; id != "" && !seen[id]; {
			seen[id] = true
			l, err := d.readLayer(id)
			if errors.Is(err, graphdriver.ErrLayerUnknown) {
				break // removed: its mounts go with it
			}
			if err != nil {
				return nil, err
			}
			if l.Kind == kindVolume {
				used[l.Volume] = true
			}
			if id == top {
				images, err := d.imagesOf(l.holders()...)
				if err != nil {
					return nil, err
				}
				for _, name := range images {
					used[name] = true
				}
			}
			id = l.Parent
		}
	}
	return used, nil
}

// mountedLayer returns the id of the layer whose mount point this path is.
func (d *Driver) mountedLayer(path string) string {
	id := filepath.Base(filepath.Dir(path))
	if path != d.mergedDir(id) {
		return ""
	}
	return id
}

// mangle writes paths as the kernel's mount table has mount points (show_mountinfo in fs/proc_namespace.c). In sources
// it replaces "#", too.
var mangle = strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`)

// mounted lists the store's mount points in this mount namespace.
func (d *Driver) mounted() ([]string, error) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer table.Close()
	content := bytes.NewBuffer(make([]byte, 0, 64<<10)) // few, large reads
	if _, err := content.ReadFrom(table); err != nil {
		return nil, err
	}
	// A node has thousands of mounts, and parsing a line takes longer than the kernel takes to write it.
	ours := []byte(mangle.Replace(d.home) + "/")
	var lines []byte
	for line := range bytes.Lines(content.Bytes()) {
		if bytes.Contains(line, ours) {
			lines = append(lines, line...)
		}
	}
	infos, err := mountinfo.GetMountsFromReader(bytes.NewReader(lines), func(info *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(info.Mountpoint, d.home+"/"), false
	})
	if err != nil {
		return nil, err
	}
	paths := make([]string, 0, len(infos))
	for _, info := range infos {
		paths = append(paths, info.Mountpoint)
	}
	return paths, nil
}
