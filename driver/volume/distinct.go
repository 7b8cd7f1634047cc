package volume

import "slices"

// Distinct returns, of an image's layers, the lowest first, those that an image is made of: each volume once, as the
// topmost of the layers that have it. Equal keys mean equal volumes. Hosts, guests and measurements must agree on it: a
// union of more or other volumes has another root hash.
//
// Images that have the same RUN twice, or several empty layers, have such copies. overlayfs refuses to have a
// directory twice in its stack (ELOOP), and nothing of a lower copy is ever seen. Both copies have the same names, as
// whiteouts or as files. Where the upper copy is seen, it hides a file or a whiteout of the lower one, and adds all
// names that the lower one has in a directory, whatever the layers between them hid or replaced. Where the upper copy
// is not seen, because a layer above it hides the path, that layer hides the lower copy as well.
//
// If one layer is left, its volume is the image. If there are more, Merge makes one volume of them, in this order.
func Distinct[T any](layers []T, key func(T) string) []T {
	seen := make(map[string]bool, len(layers))
	var kept []T
	for _, l := range slices.Backward(layers) {
		if k := key(l); !seen[k] {
			seen[k] = true
			kept = append(kept, l)
		}
	}
	slices.Reverse(kept)
	return kept
}
