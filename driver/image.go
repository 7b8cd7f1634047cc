package driver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/crio-erofs/crio-erofs/driver/volume"
)

// imageRecord is what image.json says of the image volume of the image whose top layer's directory it is in.
type imageRecord struct {
	Version int    `json:"version"`
	Key     string `json:"key"`    // of the volumes that it is the union of, see imageKey
	Volume  string `json:"volume"` // name of the directory in volumes/
}

// imageKey names the union of volumes, the lowest first: by the content of all, not by the top one alone, which may be
// in many images. Another version of the format gives another union; it has the highest one of the volumes.
func imageKey(volumes []volume.ManifestVolume) string {
	version := 0
	for i := range volumes {
		version = max(version, volumes[i].FormatVersion)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "crio-erofs image of format %d\n", version)
	for i := range volumes {
		fmt.Fprintf(sum, "%s\n", contentOf(&volumes[i].Description))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// addImage puts the image volume into a manifest, and makes that volume if it is not there. An image without one can do
// without: the manifest says why.
func (d *Driver) addImage(m *volume.Manifest, chain []*layer) {
	m.Image = nil
	maker, holder := d.imageHolder(chain)
	if m.NoImage = maker.whyNoImage(m); m.NoImage != "" {
		return
	}
	if len(m.Volumes) == 1 {
		m.Image = &m.Volumes[0]
		return
	}
	i := &imageWanted{maker: maker, holder: holder, key: imageKey(m.Volumes), volumes: m.Volumes}
	v, err := d.imageNow(i)
	if err != nil {
		log.WithField(fieldLayer, m.ID).WithError(err).Error("No image volume for this container")
		m.NoImage = fmt.Sprintf("making the image volume failed: %v", err)
		return
	}
	if v == nil {
		m.NoImage = "the image volume is being made in the background (erofs.image_volume=background): a container that starts " +
			"when it is there has it"
		return
	}
	v.LayerID, v.DiffID = m.Volumes[len(m.Volumes)-1].LayerID, ""
	m.Image = v
}

// imageWanted is an image volume that a container shall have, and which driver makes it for which layer to hold.
type imageWanted struct {
	maker       *Driver
	holder, key string
	volumes     []volume.ManifestVolume // the lowest first
}

// imageNow returns an image volume, and makes it if it is not there; nil: that is being done in the background.
func (d *Driver) imageNow(i *imageWanted) (*volume.ManifestVolume, error) {
	if d.options.image != ImageBackground {
		return d.makeWanted(context.Background(), i)
	}
	if v := i.maker.findImage(i.holder, i.key); v != nil {
		return v, nil
	}
	if v, err := i.maker.shareImage(i.holder, i.key); err != nil || v != nil {
		return v, err
	}
	if err := i.maker.failures.recent(i.key); err != nil {
		return nil, err
	}
	d.aside.begin("image "+i.key, func(ctx context.Context) {
		if _, err := d.makeWanted(ctx, i); err != nil && ctx.Err() == nil && exists(i.maker.recordPath(i.holder)) {
			log.WithField(fieldLayer, i.holder).WithError(err).Error("No image volume for this image")
		}
	})
	return nil, nil
}

// makeWanted returns an image volume, and makes it if it is not there.
func (d *Driver) makeWanted(ctx context.Context, i *imageWanted) (*volume.ManifestVolume, error) {
	fresh := i.maker != d && i.maker.findImage(i.holder, i.key) == nil
	v, err := i.maker.imageVolume(ctx, i.key, i.holder, i.volumes)
	if err == nil && fresh {
		err = d.dropMounts(nameOf(v))
	}
	return v, err
}

// whyNoImage says why there can be no image volume for the manifest's volumes.
func (d *Driver) whyNoImage(m *volume.Manifest) string {
	if m.Refusal != "" {
		return m.Refusal
	}
	if len(m.Volumes) == 1 {
		return "" // it is the image
	}
	if d.noImage != "" {
		return d.noImage
	}
	for i := range m.Volumes {
		switch v := &m.Volumes[i]; {
		case d.options.image == ImageReflink && !d.canShare(v):
			return fmt.Sprintf("the volume of layer %s is in an additional image store on another file system (%s), and "+
				"erofs.image_volume=reflink makes image volumes only where blocks can be shared", v.LayerID, v.Path)
		case v.Layout != volume.LayoutAligned:
			return fmt.Sprintf("layer %s has a volume of layout %s, and only those of layout %s can be merged: remove the "+
				"image and pull it again with erofs.layout=%s", v.LayerID, v.Layout, volume.LayoutAligned, volume.LayoutAligned)
		case v.Verity == nil:
			return fmt.Sprintf("the volume of layer %s has no hash tree, of which an image volume's tree could be made: "+
				"remove the image and pull it again with erofs.verity=on", v.LayerID)
		}
	}
	return ""
}

// imageHolder returns the layer in whose directory the image volume of a chain is linked: the image's top layer, so
// that all containers of the image share it and it goes away with the image. If that layer is in an additional image
// store, each container holds it. The driver is the one that makes it, in the holder's store.
func (d *Driver) imageHolder(chain []*layer) (maker *Driver, holder string) {
	switch {
	case len(chain) == 1 || chain[1].home == "":
		return d, chain[0].Parent
	case d.images != nil && chain[1].home == d.images.home:
		return d.images, chain[0].Parent
	default:
		return d, chain[0].ID
	}
}

// holders returns the layers that may hold the image volume with which a container's layer is mounted.
func (l *layer) holders() []string { return []string{l.ID, l.Parent} }

// findImage returns the image volume that a layer holds, if it is of this key and whole; else nil.
func (d *Driver) findImage(holder, key string) *volume.ManifestVolume {
	r, err := d.readImage(holder)
	if err != nil || r == nil || r.Key != key {
		return nil
	}
	v, err := d.describeVolume(r.Volume)
	if err != nil {
		log.WithField(fieldLayer, holder).WithError(err).Debug("The image volume must be made again")
		return nil
	}
	fi, err := os.Lstat(d.imageLinkPath(holder))
	if err != nil {
		return nil
	}
	if id, err := volume.FileIDOf(fi); err != nil || id != v.FileID {
		return nil
	}
	return v
}

// readImage returns what a layer's image.json says; nil if there is none.
func (d *Driver) readImage(id string) (*imageRecord, error) {
	r, err := d.imageRecordOf(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !isKnown(r.Version) || r.Volume == "" || filepath.Base(r.Volume) != r.Volume {
		return nil, fmt.Errorf("%s is of version %d, volume %q", d.imageRecordPath(id), r.Version, r.Volume)
	}
	return r, nil
}

// imagesOf returns the names of the image volumes that these layers hold.
func (d *Driver) imagesOf(ids ...string) (names []string, err error) {
	for _, id := range ids {
		if id == "" {
			continue
		}
		r, readErr := d.readImage(id)
		if readErr == nil && r != nil {
			names = append(names, r.Volume)
		}
		err = errors.Join(err, readErr)
	}
	return names, err
}

// recoverImage makes a layer hold an image volume wholly or not at all.
func (d *Driver) recoverImage(id string) error {
	r, err := d.readImage(id)
	if err == nil && r != nil {
		if same, err := sameFile(d.imageLinkPath(id), d.volumePath(r.Volume)); err == nil && same {
			return nil
		}
	}
	return errors.Join(removeAll(d.imageRecordPath(id)), removeAll(d.imageLinkPath(id)))
}

func sameFile(a, b string) (bool, error) {
	fa, err := os.Lstat(a)
	if err != nil {
		return false, err
	}
	fb, err := os.Lstat(b)
	return err == nil && os.SameFile(fa, fb), err
}
