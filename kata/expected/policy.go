package expected

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/crio-erofs/crio-erofs/contrib/policy"
	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/kata"
)

const (
	// InitDataPolicy is the entry of init data that Kata's agent takes its policy from
	// (kata-containers src/agent/src/initdata.rs).
	InitDataPolicy = "policy.rego"

	// InitDataStorages is an entry of ours: the policy's data alone, for who does not evaluate Rego.
	InitDataStorages = "erofs-images.json"
)

// Policy returns a policy for Kata's agent that lets containers have the volumes of these images only.
func Policy(images []*measure.Measurement) (string, error) {
	data, err := policyData(images)
	if err != nil {
		return "", err
	}
	return policy.Rules + "\nerofs_images := " + string(data) + "\n", nil
}

func policyData(images []*measure.Measurement) ([]byte, error) {
	all := make([]*ImageStorages, len(images))
	for i, m := range images {
		var err error
		if all[i], err = NewImageStorages(m); err != nil {
			return nil, err
		}
	}
	return json.MarshalIndent(all, "", "  ") // Rego's terms are JSON
}

// initData is Confidential Containers' init data (kata-containers src/libs/kata-types/src/initdata.rs).
type initData struct {
	Version   string            `toml:"version"`
	Algorithm string            `toml:"algorithm"`
	Data      map[string]string `toml:"data,multiline"`
}

// InitData returns init data with a policy for these images, as TOML. The hardware vouches for its digest; so it is the
// place from which a guest can know what to expect.
func InitData(images []*measure.Measurement) ([]byte, error) {
	rules, err := Policy(images)
	if err != nil {
		return nil, err
	}
	data, err := policyData(images)
	if err != nil {
		return nil, err
	}
	return toml.Marshal(initData{Version: "0.1.0", Algorithm: "sha256",
		Data: map[string]string{InitDataPolicy: rules, InitDataStorages: string(data)}})
}

// ParseInitData returns the entries of init data.
func ParseInitData(b []byte) (map[string]string, error) {
	var d initData
	if err := toml.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("init data: %w", err)
	}
	if d.Version != "0.1.0" {
		return nil, fmt.Errorf("init data: version %q, not 0.1.0", d.Version)
	}
	return d.Data, nil
}

// ReferenceName is under what name Trustee knows an image's root hashes for a mode. It has no colon: the stores that keep
// values in files or in a database refuse such names (trustee deps/key-value-storage/src/lib.rs, is_valid_key).
func ReferenceName(m *measure.Measurement, mode kata.Mode) string {
	return "crio-erofs/" + strings.Replace(m.ConfigDigest, ":", "-", 1) + "/" + string(mode)
}

// ReferenceValues returns a message for Trustee's reference value provider service with the root hashes of every image's
// volumes (trustee rvps, extractor "sample": names with lists of values).
func ReferenceValues(images []*measure.Measurement) ([]byte, error) {
	values := map[string][]string{}
	for _, m := range images {
		for _, r := range Rootfses(m) {
			hashes := make([]string, len(r.Volumes))
			for i, v := range r.Volumes {
				hashes[i] = v.Verity.RootHash
			}
			values[ReferenceName(m, r.Mode)] = hashes
		}
	}
	payload, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	err = enc.Encode(map[string]string{"version": "0.1.0", "type": "sample", "payload": base64.StdEncoding.EncodeToString(payload)})
	return out.Bytes(), err
}
