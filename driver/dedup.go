package driver

import graphdriver "github.com/containers/storage/drivers"

// Dedup has nothing to do: layers of equal content are one volume from the start. As containers/storage wants it, the
// answer counts what was saved before, too: a volume's size for every further layer that has it.
func (d *Driver) Dedup(args graphdriver.DedupArgs) (graphdriver.DedupResult, error) {
	var result graphdriver.DedupResult
	seen := map[string]bool{}
	for _, id := range args.Layers {
		l, err := d.readLayer(id)
		if err != nil {
			return graphdriver.DedupResult{}, err
		}
		if l.Kind != kindVolume || l.home != "" {
			continue
		}
		if !seen[l.Volume] {
			seen[l.Volume] = true
			continue
		}
		v, err := d.describeVolume(l.Volume)
		if err != nil {
			return graphdriver.DedupResult{}, err
		}
		result.Deduped += uint64(v.Size)
	}
	return result, nil
}
