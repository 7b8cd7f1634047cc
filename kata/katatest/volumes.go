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

// GoodVolumes has what every decoder accepts: every type, with all fields that it may have and with no more than it
// needs.
var GoodVolumes = []string{
	Volume,
	VolumeNoVerity,
	NydusVolume,
	swap(`layer_raw_block`, `image_raw_block`),
	swap(`"salt":"-"`, `"salt":"00ff"`),
	swap(`"no_superblock":true`, `"no_superblock":false`),
	`{"volume_type":"image_guest_pull","source":"example.org/busybox","image_pull":{"metadata":{"a.b/c":"d"}}}`,
	`{"volume_type":"image_guest_pull","source":"busybox","fs_type":"overlay_fs","options":["a=b"],` +
		`"image_pull":{"metadata":{}}}`,
	`{"volume_type":"direct_block","source":"/dev/sdb","fs_type":"xfs"}`,
	`{"volume_type":"direct_block","source":"/dev/sdb","fs_type":"xfs","options":["ro"],"direct_volume":{"metadata":{}}}`,
	nydus("image_nydus_fs", "rafsv6", ""),
	nydus("layer_nydus_fs", "rafsv5", ""),
	nydus("image_nydus_block", "rafsv6", ""),
	nydus("layer_nydus_block", "rafsv6", verity),
}

// verity is the dm_verity of Volume.
var verity = Volume[strings.Index(Volume, `,"dm_verity"`) : len(Volume)-1]

// nydus returns a volume of one of the nydus types; more is JSON to append.
func nydus(volumeType, fsType, more string) string {
	return `{"volume_type":"` + volumeType + `","source":"/b/image.boot","fs_type":"` + fsType + `",` +
		`"nydus_image":{"config":"{\n}","snapshot_dir":"/s"}` + more + `}`
}

// BadVolume is what package kata refuses.
type BadVolume struct {
	Name string
	JSON string
	Want string // is in the error

	// KataAccepts says that Kata's Go parser takes it: unlike us it ignores unknown keys and repeated ones, checks
	// neither source nor file system, and lets a type have the fields of another.
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
	{"long source", swap(Path, "/"+strings.Repeat("a", 4095)), "source has 4096 bytes", true},
	{"long fs_type", swap(`"fs_type":"erofs"`, `"fs_type":"`+strings.Repeat("a", 65)+`"`), "fs_type has 65 bytes", true},
	{"empty metadata", `{"volume_type":"image_guest_pull","source":"a","image_pull":{}}`,
		"image_pull.metadata is missing", false},
	{"empty direct", `{"volume_type":"direct_block","source":"/dev/sdb","fs_type":"xfs","direct_volume":{}}`,
		"direct_volume.metadata is missing", false},
	{"empty nydus", `{"volume_type":"image_nydus_fs","source":"/b","fs_type":"rafsv6",` +
		`"nydus_image":{"config":"","snapshot_dir":""}}`, "nydus_image.config is empty", false},
	{"nydus without directory", `{"volume_type":"image_nydus_fs","source":"/b","fs_type":"rafsv6",` +
		`"nydus_image":{"config":"{}","snapshot_dir":""}}`, `nydus_image.snapshot_dir "" is not a clean absolute`, true},
	{"no nydus", `{"volume_type":"layer_nydus_block","source":"/b","fs_type":"rafsv6"}`, "nydus_image is missing", true},
	{"nydus block of v5", nydus("image_nydus_block", "rafsv5", ""), `fs_type "rafsv5" does not belong`, true},
	{"nydus of erofs", nydus("layer_nydus_fs", "erofs", ""), `fs_type "erofs" does not belong`, true},
	{"nydus fs with verity", nydus("layer_nydus_fs", "rafsv6", verity), "dm_verity does not belong", true},
	{"nydus with options", nydus("layer_nydus_fs", "rafsv6", `,"options":["ro"]`), "options does not belong", true},
	{"raw with nydus", swap(`"options"`, `"nydus_image":{"config":"{}","snapshot_dir":"/s"},"options"`),
		"nydus_image does not belong", true},
	{"raw with pull", swap(`"options"`, `"image_pull":{"metadata":{}},"options"`), "image_pull does not belong", true},
	{"raw with direct", swap(`"options"`, `"direct_volume":{"metadata":{}},"options"`), "direct_volume does not", true},
	{"direct with verity", swap("layer_raw_block", "direct_block"), "dm_verity does not belong", true},
	{"pull with verity", `{"volume_type":"image_guest_pull","source":"a","image_pull":{"metadata":{}}` + verity + `}`,
		"dm_verity does not belong", true},
	{"pull of a file system", `{"volume_type":"image_guest_pull","source":"a","fs_type":"erofs",` +
		`"image_pull":{"metadata":{}}}`, `fs_type "erofs" does not belong`, true},
	{"pull without metadata", `{"volume_type":"image_guest_pull","source":"a"}`, "image_pull is missing", true},
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
