// Package katatest has KataVirtualVolumes in their JSON form, good and bad, to judge decoders with: ours in package
// kata, and Kata's own in test/katacompat.
package katatest

import "strings"

const (
	// RootHash is a root hash.
	RootHash = "6f398283a00a69ee4f1dd7f41ba5a36dfcafaf883fbd93566d5ffebb1796684d"

	// Path is where a volume of this root hash is stored.
	Path = "/var/lib/containers/storage/erofs/volumes/6f398283a00a69ee4f1dd7f4/layer.erofs"

	// Volume is a layer volume of 1038 data blocks, as this project writes it, byte for byte. Changing it breaks
	// readers.
	Volume = `{"volume_type":"layer_raw_block","source":"` + Path + `","fs_type":"erofs","options":["ro"],` +
		`"dm_verity":{"hashtype":"sha256","hash":"` + RootHash + `","blocknum":1038,"blocksize":4096,` +
		`"hashsize":4096,"offset":4255744,"salt":"-","hash_type":1,"no_superblock":true}}`

	// VolumeNoVerity is the same without dm-verity.
	VolumeNoVerity = `{"volume_type":"layer_raw_block","source":"` + Path + `","fs_type":"erofs","options":["ro"]}`

	// NydusVolume is of the form that nydus-snapshotter writes for a layer (snapshot/mount_option.go): 512-byte
	// blocks, no superblock, and none of the three fields that only runtime-rs has.
	NydusVolume = `{"volume_type":"layer_raw_block","source":"/var/lib/nydus/cache/4a85.layer.disk",` +
		`"fs_type":"erofs","options":["ro"],"dm_verity":{"hashtype":"sha256","hash":"` + RootHash + `",` +
		`"blocknum":1038,"blocksize":512,"hashsize":4096,"offset":532480}}`
)

// GoodVolumes has what every decoder accepts.
var GoodVolumes = []string{
	Volume,
	VolumeNoVerity,
	NydusVolume,
	`{"volume_type":"image_guest_pull","source":"example.org/busybox","image_pull":{"metadata":{"a.b/c":"d"}}}`,
	`{"volume_type":"direct_block","source":"/dev/sdb","fs_type":"xfs","direct_volume":{"metadata":{}}}`,
	`{"volume_type":"image_nydus_fs","source":"/b","fs_type":"rafsv6",` +
		`"nydus_image":{"config":"{\n}","snapshot_dir":"/s"}}`,
	swap(`"salt":"-"`, `"salt":"00ff"`),
	swap(`"no_superblock":true`, `"no_superblock":false`),
}

// BadVolume is what package kata refuses.
type BadVolume struct {
	Name string
	JSON string
	Want string // is in the error

	// KataAccepts says that Kata's Go parser takes it: unlike us it ignores unknown keys and repeated ones, and it
	// checks neither source nor file system.
	KataAccepts bool
}

// BadVolumes has what package kata refuses.
var BadVolumes = []BadVolume{
	{"empty", ``, "json: unexpected end", false},
	{"null", `null`, "the whole is null", false},
	{"array", `[]`, "json:", false},
	{"trailing", Volume + `{}`, "json: invalid character", false},
	{"not UTF-8", "{\"volume_type\":\"\xff\"}", "not UTF-8", true},
	{"no type", `{"source":"/a","fs_type":"erofs"}`, `volume_type "" is unknown`, false},
	{"type", swap(`layer_raw_block`, `layer_raw_blocks`), `volume_type "layer_raw_blocks" is unknown; valid are`, true},
	{"type of field", swap(`"blocknum":1038`, `"blocknum":"1038"`), "dm_verity.blocknum is a JSON string", false},
	{"negative", swap(`"offset":4255744`, `"offset":-1`), "dm_verity.offset is a JSON number -1", false},
	{"options", swap(`["ro"]`, `"ro"`), "options is a JSON string", false},
	{"unknown field", swap(`"fs_type"`, `"readonly":true,"fs_type"`), "readonly is not a known field", true},
	{"unknown deep field", swap(`"salt"`, `"salz"`), "dm_verity.salz is not a known field", true},
	{"case", swap(`"source"`, `"Source"`), "Source is not a known field", true},
	{"twice", swap(`"fs_type"`, `"source":"/etc/shadow","fs_type"`), "source appears twice", true},
	{"twice, case", swap(`"fs_type"`, `"SOURCE":"/etc/shadow","fs_type"`), "SOURCE is not a known field", true},
	{"null field", swap(`["ro"]`, `null`), "options is null", true},
	{"null element", swap(`["ro"]`, `[null]`), "options[0] is null", true},
	{"null object", `{"volume_type":"layer_raw_block","source":"/a","fs_type":"erofs","dm_verity":null}`,
		"dm_verity is null", true},
	{"no source", swap(`"source":"`+Path+`",`, ``), `source "" is not a clean absolute path`, true},
	{"relative source", swap(Path, `layer.erofs`), `source "layer.erofs" is not a clean absolute path`, true},
	{"dots in source", swap(Path, `/var/../etc/shadow`), "is not a clean absolute path", true},
	{"NUL in source", swap(Path, `/a\u0000b`), "control character at byte 2", true},
	{"lone surrogate", swap(Path, `/\ud800`), "is not UTF-8", true},
	{"line end in option", swap(`"ro"`, `"ro\n"`), "options[0]", true},
	{"no fs_type", swap(`"fs_type":"erofs",`, ``), "fs_type is empty", true},
	{"algorithm", swap(`"sha256"`, `"md5"`), `dm_verity.hashtype "md5" is not supported`, false},
	{"short hash", swap(RootHash, RootHash[2:]), "is not 64 hex digits", false},
	{"hash not hex", swap(RootHash, "xy"+RootHash[2:]), "dm_verity.hash", false},
	{"sha1 of 64 digits", swap(`"sha256"`, `"sha1"`), "is not 40 hex digits", false},
	{"no blocks", swap(`"blocknum":1038`, `"blocknum":0`), "dm_verity.blocknum 0", false},
	{"too many blocks", swap(`"blocknum":1038`, `"blocknum":4294967296`), "dm_verity.blocknum 4294967296", false},
	{"small block", swap(`"blocksize":4096`, `"blocksize":256`), "dm_verity.blocksize 256", false},
	{"large block", swap(`"hashsize":4096`, `"hashsize":1048576`), "dm_verity.hashsize 1048576", false},
	{"odd block", swap(`"blocksize":4096`, `"blocksize":4095`), "dm_verity.blocksize 4095 is not a power of two", true},
	{"no hashsize", swap(`"hashsize":4096,`, ``), "dm_verity.hashsize 0", false},
	{"offset in data", swap(`"offset":4255744`, `"offset":4096`), "dm_verity.offset 4096", false},
	{"offset off a block", swap(`"offset":4255744`, `"offset":4255745`), "dm_verity.offset 4255745", false},
	{"salt", swap(`"salt":"-"`, `"salt":"zz"`), `dm_verity.salt "zz"`, true},
	{"format", swap(`"hash_type":1`, `"hash_type":2`), "dm_verity.hash_type 2", true},
	{"empty metadata", `{"volume_type":"image_guest_pull","source":"a","image_pull":{}}`,
		"image_pull.metadata is missing", false},
	{"empty direct", swap(`"options"`, `"direct_volume":{},"options"`), "direct_volume.metadata is missing", false},
	{"empty nydus", swap(`"options"`, `"nydus_image":{"config":"","snapshot_dir":""},"options"`),
		"nydus_image has neither", false},
	{"no image", `{"volume_type":"image_guest_pull","image_pull":{"metadata":{}}}`, "source is empty", true},
	{"label twice", `{"volume_type":"image_guest_pull","source":"a","image_pull":{"metadata":{"x":"1","x":"2"}}}`,
		"image_pull.metadata.x appears twice", true},
}

// swap returns Volume with one part replaced.
func swap(old, new string) string {
	if !strings.Contains(Volume, old) {
		panic("not in the golden volume: " + old)
	}
	return strings.Replace(Volume, old, new, 1)
}
