package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/crio-erofs/crio-erofs/kata/expected"
	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
)

// expectation is what the guest's owner wants containers to have. It comes with the guest and not from the host that
// asks for containers.
type expectation struct {
	images  []*expected.ImageStorages
	digests []string // of images of which nothing was measured; if there are any, containers are of these
}

// wanted is nil in a guest without init data, which takes what it gets.
var wanted *expectation

// readInitData takes over the init data that the guest was started with. Kata's agent evaluates the policy in it
// (policy.rego); this one applies the same rules (contrib/policy) to the policy's data, without an engine for Rego.
func readInitData(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := expected.ParseInitData(b)
	if err != nil {
		return err
	}
	e := &expectation{}
	entry, to := expected.InitDataStorages, any(&e.images)
	if data[agentapi.InitDataImages] != "" {
		entry, to = agentapi.InitDataImages, &e.digests
	}
	text, ok := data[entry]
	if !ok {
		return fmt.Errorf("init data: no entry %s", entry)
	}
	if err := json.Unmarshal([]byte(text), to); err != nil {
		return fmt.Errorf("init data: %s: %w", entry, err)
	}
	wanted = e
	return nil
}

// check accepts the storages of one of the images, in one of the ways that it can be given: as many, in the order of
// their partitions, on one disk, each with exactly the expected options. If images are known by their digests alone, it
// returns the diffIDs that the volumes must have instead, topmost first.
func (e *expectation) check(r *agentapi.CreateContainerRequest) ([]string, error) {
	switch {
	case e == nil:
		return nil, nil
	case e.digests != nil:
		return e.tarfsStack(r.OCI)
	}
	return nil, e.checkStorages(r.Storages)
}

func (e *expectation) checkStorages(storages []agentapi.Storage) error {
	for _, image := range e.images {
		for _, rootfs := range image.Rootfs {
			if slices.EqualFunc(storages, rootfs.Options, func(s agentapi.Storage, options []string) bool {
				return s.FSType == "erofs" && s.Source == storages[0].Source && s.MountPoint == storages[0].MountPoint &&
					slices.Equal(s.Options, options)
			}) {
				return nil
			}
		}
	}
	return fmt.Errorf("the guest's init data allow no container with volumes of root hashes %s", rootHashes(storages))
}

func rootHashes(storages []agentapi.Storage) []string {
	hashes := []string{}
	for _, s := range storages {
		hash := "none"
		for _, o := range s.Options {
			if h, ok := strings.CutPrefix(o, agentapi.OptVerityRootHash); ok {
				hash = h
			}
		}
		hashes = append(hashes, hash)
	}
	return hashes
}
