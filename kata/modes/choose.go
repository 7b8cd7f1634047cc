package modes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
)

// Choose returns the mode for a container of handler h whose pod requests the mode named request; empty if it requests
// none. The error says for each mode that was tried why it is not possible.
func (h *Handler) Choose(request string, offer Offer) (kata.Mode, error) {
	tried := h.Modes
	subject := "handler " + h.Name
	if request != "" {
		want, err := kata.ParseMode(request)
		if err != nil {
			return "", fmt.Errorf("the pod requests a mode that does not exist: %w", err)
		}
		subject = fmt.Sprintf("the pod requests mode %s", want)
		if tried = h.satisfying(want); len(tried) == 0 {
			return "", fmt.Errorf("%s, which handler %s does not allow; a pod may request %s", subject, h.Name,
				list(h.Allow))
		}
	}
	var why refusals
	for _, m := range tried {
		reason := h.cannot(m, offer)
		if reason == "" {
			return m, nil
		}
		why.add(m, reason)
	}
	return "", fmt.Errorf("%s: %s", subject, why)
}

// refusals are the reasons why modes are not possible.
type refusals []refusal

type refusal struct {
	modes  []kata.Mode
	reason string
}

// add joins modes that one reason rules out.
func (r *refusals) add(m kata.Mode, reason string) {
	i := slices.IndexFunc(*r, func(f refusal) bool { return f.reason == reason })
	if i < 0 {
		i = len(*r)
		*r = append(*r, refusal{reason: reason})
	}
	(*r)[i].modes = append((*r)[i].modes, m)
}

func (r refusals) String() string {
	sentences := make([]string, len(r))
	for i, f := range r {
		verb := "is"
		if len(f.modes) > 1 {
			verb = "are"
		}
		sentences[i] = fmt.Sprintf("%s %s not possible: %s", list(f.modes), verb, f.reason)
	}
	return strings.Join(sentences, "; ")
}

// satisfying returns the allowed modes that give a pod what it requests, the requested one first: verified instead of
// unverified is not less.
func (h *Handler) satisfying(want kata.Mode) []kata.Mode {
	var modes []kata.Mode
	for _, m := range h.Allow {
		switch {
		case m == want:
			modes = slices.Insert(modes, 0, m)
		case m.Satisfies(want):
			modes = append(modes, m)
		}
	}
	return modes
}

// cannot returns why a container cannot have mode m, "" if it can.
func (h *Handler) cannot(m kata.Mode, offer Offer) string {
	switch m {
	case kata.ModeSharedFS:
		return ""
	case kata.ModeGuestPull:
		if offer.Reference == "" {
			return "the image has no name by which a guest could pull it"
		}
		return ""
	}
	manifest := offer.Manifest
	switch {
	case manifest == nil:
		return "the rootfs is not on the erofs storage driver (set storage_driver = \"erofs\" in CRI-O's configuration)"
	case manifest.Refusal != "":
		return "the rootfs cannot be given to a VM as volumes: " + manifest.Refusal
	case len(manifest.Volumes) == 0:
		return "the image has no layers"
	}
	volumes := Volumes(m, manifest)
	if len(volumes) == 0 {
		return "the store has no volume of the whole image" + because(manifest.NoImage)
	}
	if len(volumes) > kata.MaxRootfsVolumes && h.asRuntimeRS() {
		return fmt.Sprintf("%d volumes, and Kata takes at most %d for a container", len(volumes),
			kata.MaxRootfsVolumes)
	}
	for i := range volumes {
		if why := h.cannotAttach(m, &volumes[i]); why != "" {
			return fmt.Sprintf("volume %s %s", volumes[i].Path, why)
		}
	}
	return ""
}

// Volumes returns the volumes that a container in mode m gets, lowest first; none in the modes without volumes, and if
// there is no image volume where m needs it.
func Volumes(m kata.Mode, manifest *volume.Manifest) []volume.ManifestVolume {
	switch {
	case m.Image() && manifest.Image != nil:
		return []volume.ManifestVolume{*manifest.Image}
	case !m.Image() && HasVolumes(m):
		return manifest.Volumes
	}
	return nil
}

// HasVolumes says whether a container in mode m gets volumes.
func HasVolumes(m kata.Mode) bool {
	return m.Image() || m == kata.ModeLayer || m == kata.ModeLayerVerity
}

// asRuntimeRS says whether the rules of Kata's runtime-rs apply.
func (h *Handler) asRuntimeRS() bool {
	return h.Dialect == DialectAuto || h.Dialect == DialectRuntimeRS
}

// cannotAttach returns what is wrong with a volume for mode m.
func (h *Handler) cannotAttach(m kata.Mode, v *volume.ManifestVolume) string {
	switch {
	case !m.Verity():
		return ""
	case v.Verity == nil:
		return "has no dm-verity tree (remove the image and pull it again with erofs.verity=on)"
	case h.asRuntimeRS() && v.Verity.DataBlockSize != 4096:
		// runtime-rs does not pass block sizes on; its agent takes 4096 (src/agent/src/storage/multi_layer_erofs.rs).
		return fmt.Sprintf("has data blocks of %d bytes, and Kata's agent can only verify 4096", v.Verity.DataBlockSize)
	}
	return ""
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
