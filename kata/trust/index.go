package trust

import (
	"context"
	"crypto/sha256"
	"encoding/json"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/safefile"
)

// indexed is what a file says it is of, whoever has signed it: enough to know whether it has to be read for an image.
type indexed struct {
	id           fileID
	configDigest string // "": it is of no image
	layers       [sha256.Size]byte
}

// image is what a container's image is known by.
type image struct {
	configDigest string // "": not known
	layers       [sha256.Size]byte
}

func newImage(configDigest string, diffIDs []string) image {
	sum := sha256.New()
	for _, id := range diffIDs {
		sum.Write([]byte(id + "\n"))
	}
	return image{configDigest: configDigest, layers: [sha256.Size]byte(sum.Sum(nil))}
}

func (f indexed) isOf(img *image) bool {
	if f.configDigest == "" {
		return false
	}
	if img.configDigest == "" {
		return f.layers == img.layers
	}
	return f.configDigest == img.configDigest
}

// of returns the measurements of an image that count, and the files that may be of it and do not. Only these are read
// whole, and only their signatures checked: NRI drops a plugin that takes long, also one that is about to refuse.
func (d *Dir) of(ctx context.Context, img *image) (entries, problems []*Entry, err error) {
	keys, paths, err := d.list()
	if err != nil {
		return nil, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.look(paths)
	for _, path := range paths {
		if f := d.index[path]; f.configDigest != "" && !f.isOf(img) {
			continue
		}
		e := readEntry(ctx, path, keys)
		switch {
		case e.Problem != nil:
			problems = append(problems, e)
		case newIndexed(e.Measurement).isOf(img): // the file may have been replaced in between
			entries = append(entries, e)
		}
	}
	return entries, problems, nil
}

// Index looks at all files ahead of the first Check, which takes a second for thousands of them. What is wrong with one
// is for Check to say.
func (d *Dir) Index() {
	paths, err := listFiles(d.path, ".json")
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.look(paths)
}

// look brings the index up to date; the caller holds mu.
func (d *Dir) look(paths []string) {
	now := make(map[string]indexed, len(paths))
	for _, path := range paths {
		now[path] = d.lookAt(path)
	}
	d.index = now
}

// lookAt returns what a file is of, without reading one again that has not changed.
func (d *Dir) lookAt(path string) indexed {
	if f, ok := d.index[path]; ok {
		if id, err := identify(path); err == nil && id == f.id {
			return f
		}
	}
	b, fi, err := safefile.ReadOwned(path, maxEnvelopeSize)
	if err != nil {
		return indexed{} // which is no file's, so that it is read again
	}
	f := readImage(b)
	f.id = newFileID(fi)
	return f
}

func newIndexed(m *measure.Measurement) indexed {
	img := newImage(m.ConfigDigest, m.DiffIDs())
	return indexed{configDigest: img.configDigest, layers: img.layers}
}

// measuredImage is the part of a measurement that says what it is of.
type measuredImage struct {
	ConfigDigest string `json:"config_digest"`
	Layers       []struct {
		DiffID string `json:"diff_id"`
	} `json:"layers"`
}

// readImage reads what a file is of as ParseTrusted would, without checking the rest of it, nor its signatures.
func readImage(b []byte) indexed {
	var plain struct {
		dsse.Envelope
		measuredImage
	}
	if json.Unmarshal(b, &plain) != nil {
		return indexed{}
	}
	m := &plain.measuredImage
	if plain.Payload != "" {
		payload, err := plain.DecodeB64Payload()
		var s struct {
			Predicate measuredImage `json:"predicate"`
		}
		if err != nil || json.Unmarshal(payload, &s) != nil {
			return indexed{}
		}
		m = &s.Predicate
	}
	diffIDs := make([]string, len(m.Layers))
	for i, l := range m.Layers {
		diffIDs[i] = l.DiffID
	}
	img := newImage(m.ConfigDigest, diffIDs)
	return indexed{configDigest: img.configDigest, layers: img.layers}
}
