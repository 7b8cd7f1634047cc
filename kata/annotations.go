package kata

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// AnnotationVolumePrefix, followed by a volume's number, holds an encoded VirtualVolume.
	AnnotationVolumePrefix = "io.katacontainers.volume."

	// AnnotationExtraOptionPrefix, followed by a volume's number, holds an encoded ExtraOption.
	AnnotationExtraOptionPrefix = "io.katacontainers.extraoption."

	// AnnotationErofsPrefix starts every plain-text key of this project.
	AnnotationErofsPrefix = "io.katacontainers.erofs."

	// AnnotationMode holds the Mode in which the container gets its image.
	AnnotationMode = AnnotationErofsPrefix + "mode"

	// AnnotationRootHash holds the volumes' dm-verity root hashes, lowest first, with commas between them. It is absent in
	// modes without verity.
	AnnotationRootHash = AnnotationErofsPrefix + "root-hash"

	// AnnotationRequest is the one key of this project that a pod may bring: the Mode that it insists on.
	AnnotationRequest = AnnotationErofsPrefix + "request"
)

// Mode says as what a container gets its image.
type Mode string

// The modes. Those with "verity" promise that every volume has a root hash; the guest then reads nothing of the image
// that does not match it.
const (
	ModeLayer       Mode = "layer"        // one volume per layer
	ModeLayerVerity Mode = "layer-verity" // one volume per layer, all with dm-verity
	ModeImage       Mode = "image"        // one volume for the whole image
	ModeImageVerity Mode = "image-verity" // one volume for the whole image, with dm-verity
	ModeGuestPull   Mode = "guest-pull"   // no volume: the guest pulls the image itself
	ModeSharedFS    Mode = "shared-fs"    // no volume: a directory of the host, over virtio-fs
)

// Modes returns every mode, in the order of the documentation.
func Modes() []Mode {
	return []Mode{ModeLayer, ModeLayerVerity, ModeImage, ModeImageVerity, ModeGuestPull, ModeSharedFS}
}

// Verity says whether the mode promises dm-verity on every volume.
func (m Mode) Verity() bool {
	return m == ModeLayerVerity || m == ModeImageVerity
}

// Image says whether the mode gives the whole image as one volume.
func (m Mode) Image() bool { return m == ModeImage || m == ModeImageVerity }

// Satisfies says whether a container in mode m gets everything that a request for mode want asks for. A mode with
// dm-verity satisfies the request for the same mode without.
func (m Mode) Satisfies(want Mode) bool {
	return m == want || m == want+"-verity"
}

// ParseMode returns the mode named s; the error lists the valid names.
func ParseMode(s string) (Mode, error) {
	names := make([]string, 0, len(Modes()))
	for _, m := range Modes() {
		if string(m) == s {
			return m, nil
		}
		names = append(names, string(m))
	}
	return "", fmt.Errorf("mode %.64q is unknown; valid are %s", s, strings.Join(names, ", "))
}

// VolumeKey returns the annotation of volume n's VirtualVolume.
func VolumeKey(n int) string {
	return AnnotationVolumePrefix + strconv.Itoa(n)
}

// ExtraOptionKey returns the annotation of volume n's ExtraOption.
func ExtraOptionKey(n int) string {
	return AnnotationExtraOptionPrefix + strconv.Itoa(n)
}

// IsReserved says whether only this project's hook may set the annotation. Such a key that a pod brings along is
// removed or overwritten: it could name any file of the host as a disk. Reserved are the prefixes above, with whatever
// follows and also bare, except AnnotationRequest.
func IsReserved(key string) bool {
	if key == AnnotationRequest {
		return false
	}
	for _, prefix := range []string{AnnotationVolumePrefix, AnnotationExtraOptionPrefix, AnnotationErofsPrefix} {
		if strings.HasPrefix(key, prefix) || key == strings.TrimSuffix(prefix, ".") {
			return true
		}
	}
	// As mount options these two are written with "=" (nydus-snapshotter, snapshot/mount_option.go); nobody reads
	// them as annotations, and nobody should begin to.
	return strings.HasPrefix(key, "io.katacontainers.volume=") ||
		strings.HasPrefix(key, "io.katacontainers.extraoption=")
}
