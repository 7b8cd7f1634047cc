package policy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/crio-erofs/crio-erofs/driver/measure"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata/expected"
)

const cid = "0123456789abcdef"

const mountPoint = "/run/kata-containers/shared/containers/passthrough/" + cid + "/rootfs"

// measurement makes one of an image with n layers, which seed tells from others.
func measurement(seed, n int) *measure.Measurement {
	v := func(i int) measure.Volume {
		return measure.Volume{Size: 49152, Verity: volume.Verity{RootHash: fmt.Sprintf("%064x", 100*seed+i), Algorithm: "sha256",
			HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 10, HashOffset: 40960, TreeOffset: 45056}}
	}
	image := v(99)
	m := &measure.Measurement{Image: "docker://example.com/app", ConfigDigest: fmt.Sprintf("sha256:%064x", seed), Layout: volume.LayoutAligned,
		ImageVolume: &image}
	for i := range n {
		m.Layers = append(m.Layers, measure.Layer{Volume: v(i)})
	}
	return m
}

type object = map[string]any

// request is what the agent is asked, as its protocol buffers look in JSON (kata-containers src/agent/src/policy.rs): by a
// runtime-rs 4.1.0 that has a configuration of CRI-O 1.34's, as its log has it ("within CreateContainerRequest").
func request(options [][]string) object {
	storages := []any{}
	for _, o := range options {
		storages = append(storages, object{"driver": "scsi", "driver_options": []string{}, "source": "0:1", "fstype": "erofs",
			"options": o, "mount_point": mountPoint, "fs_group": nil, "shared": false})
	}
	return object{
		"container_id": cid, "exec_id": cid, "devices": []any{}, "shared_mounts": []any{}, "storages": storages,
		"OCI": object{"Root": object{"Path": mountPoint, "Readonly": false}, "Mounts": []any{
			mount("/proc", "proc"), mount("/dev", "tmpfs"), mount("/etc/hosts", "bind"), mount("/dev/shm", "bind"),
			mount("/dev/pts", "devpts"), mount("/dev/mqueue", "mqueue"), mount("/sys", "sysfs"), mount("/sys/fs/cgroup", "cgroup"),
			mount("/etc/resolv.conf", "bind"), mount("/etc/hostname", "bind"), mount("/run/.containerenv", "bind"),
		}, "Linux": object{"Namespaces": []any{namespace("ipc", ""), namespace("uts", ""), namespace("mnt", "")}}},
	}
}

func namespace(kind, path string) object { return object{"Type": kind, "Path": path} }

// mount is one as Kata asks for it (runtime-rs, resource/src/volume).
func mount(destination, kind string) object {
	source := kind
	switch {
	case destination == "/dev/shm":
		source = "/run/kata-containers/sandbox/shm"
	case kind == "bind":
		source = "/run/kata-containers/shared/containers/" + copied + path.Base(destination)
	}
	return object{"destination": destination, "type_": kind, "source": source, "options": []string{"ro"}}
}

func eval(t *testing.T, version ast.RegoVersion, policy, rule string, input any) bool {
	t.Helper()
	b, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	var plain any // as the agent has it: from JSON
	if err := json.Unmarshal(b, &plain); err != nil {
		t.Fatal(err)
	}
	results, err := rego.New(rego.SetRegoVersion(version), rego.Query("data.agent_policy."+rule), rego.Module("policy.rego", policy),
		rego.Input(plain)).Eval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		t.Fatalf("results %+v", results) // the agent takes that for an error
	}
	allowed, ok := results[0].Expressions[0].Value.(bool)
	if !ok {
		t.Fatalf("result %+v", results[0].Expressions[0].Value)
	}
	return allowed
}

func storageOptions(t *testing.T, m *measure.Measurement) (layers, image [][]string) {
	t.Helper()
	s, err := expected.NewImageStorages(m)
	if err != nil {
		t.Fatal(err)
	}
	return s.Rootfs[0].Options, s.Rootfs[1].Options
}

// createCase is a request for a container, and whether the policy of app and pause is to allow it.
type createCase struct {
	name  string
	allow bool
	input object
}

// appAndPause returns the measurements that the policy is of.
func appAndPause() []*measure.Measurement {
	return []*measure.Measurement{measurement(1, 3), measurement(2, 1)}
}

func createCases(t *testing.T) []createCase {
	t.Helper()
	app, pause := appAndPause()[0], appAndPause()[1]
	layers, image := storageOptions(t, app)
	otherLayers, otherImage := storageOptions(t, measurement(3, 3))
	pauseLayers, _ := storageOptions(t, pause)
	change := func(f func(r object)) object {
		r := request(layers)
		f(r)
		return r
	}
	mounted := func(destination, kind, key string, value any) object {
		m := mount(destination, kind)
		m[key] = value
		return change(func(r object) { r["OCI"].(object)["Mounts"] = []any{m} })
	}
	linux := func(r object) object { return r["OCI"].(object)["Linux"].(object) }
	storage := func(r object, i int) object { return r["storages"].([]any)[i].(object) }
	edit := func(i int, key string, value any) object {
		return change(func(r object) { storage(r, i)[key] = value })
	}
	return []createCase{
		{"layers", true, request(layers)},
		{"image volume", true, request(image)},
		{"pause", true, request(pauseLayers)},
		{"virtio-blk", true, change(func(r object) {
			for i := range layers {
				storage(r, i)["driver"], storage(r, i)["source"] = "blk", "02/00"
			}
		})},
		{"another image's layers", false, request(otherLayers)},
		{"another image's volume", false, request(otherImage)},
		{"one layer of another image", false, request([][]string{layers[0], otherLayers[1], layers[2]})},
		{"layers in another order", false, request([][]string{layers[1], layers[0], layers[2]})},
		{"fewer layers", false, request(layers[:2])},
		{"a layer more", false, request(append(append([][]string{}, layers...), otherLayers[0]))},
		{"a layer twice", false, request(append(append([][]string{}, layers...), layers[2]))},
		{"layers and image", false, request(append(append([][]string{}, layers...), image...))},
		{"no storages", false, request(nil)},
		{"an option more", false, edit(1, "options", append(append([]string{}, layers[1]...), "X-kata.dmverity.algorithm=sha1"))},
		{"an option twice", false, edit(1, "options", append(append([]string{}, layers[1]...), layers[1][5]))},
		{"verity not enabled", false, edit(1, "options", without(layers[1], "X-kata.dmverity-enabled=true"))},
		{"directories to make", false, edit(0, "options", append(append([]string{}, layers[0]...), "X-kata.mkdir.path=/x:0755"))},
		{"ext4 upper directory", false, change(func(r object) {
			r["storages"] = append(r["storages"].([]any), object{"driver": "scsi", "driver_options": []string{}, "source": "0:2",
				"fstype": "ext4", "options": []string{"rw", "X-kata.overlay-upper", "X-kata.multi-layer=true"}, "mount_point": mountPoint,
				"fs_group": nil, "shared": false})
		})},
		{"ext4 in the place of a layer", false, edit(2, "fstype", "ext4")},
		{"two disks", false, edit(1, "source", "0:2")},
		{"another driver", false, edit(1, "driver", "nvdimm")},
		{"driver options", false, edit(1, "driver_options", []string{"x"})},
		{"shared", false, edit(1, "shared", true)},
		{"another mount point", false, edit(1, "mount_point", "/run/kata-containers/other/rootfs")},
		{"another container's root", false, change(func(r object) { r["container_id"] = "other" })},
		{"an id that leads elsewhere", false, change(func(r object) { r["container_id"] = "../" + cid })},
		// What is copied to a path under this name would be written over verified files.
		{"an id like a copied file's name", false, change(func(r object) {
			r["container_id"] = copied + "app"
			for i := range layers {
				storage(r, i)["mount_point"] = strings.Replace(mountPoint, cid, copied+"app", 1)
			}
			r["OCI"].(object)["Root"] = object{"Path": strings.Replace(mountPoint, cid, copied+"app", 1)}
		})},
		{"another root path", false, change(func(r object) { r["OCI"].(object)["Root"] = object{"Path": "/"} })},
		{"bind mount over a program", false, change(func(r object) { r["OCI"].(object)["Mounts"] = []any{mount("/usr/bin", "bind")} })},
		{"bind mount over the root", false, change(func(r object) { r["OCI"].(object)["Mounts"] = []any{mount("/", "bind")} })},
		{"overlay over a program", false, change(func(r object) { r["OCI"].(object)["Mounts"] = []any{mount("/usr", "overlay")} })},
		{"tmpfs over a program", false, change(func(r object) { r["OCI"].(object)["Mounts"] = []any{mount("/usr", "tmpfs")} })},
		{"a mount of another container's files", false, mounted("/dev/shm", "bind", "source", strings.Replace(mountPoint, cid, "other", 1))},
		{"a mount of the guest's files", false, mounted("/etc/hosts", "bind", "source", "/")},
		{"a mount out of the copied files", false,
			mounted("/etc/hosts", "bind", "source", mount("/etc/hosts", "bind")["source"].(string)+"/../other")},
		{"a mount of copied files", true, mounted("/var/run/secrets/kubernetes.io/serviceaccount", "bind", "options", []string{"rbind", "ro"})},
		{"a copied directory to write in", false, mounted("/var/run/secrets/kubernetes.io/serviceaccount", "bind", "options", []string{"rbind"})},
		{"a copied directory to write in after all", false,
			mounted("/var/run/secrets/kubernetes.io/serviceaccount", "bind", "options", []string{"rbind", "ro", "rw"})},
		{"a copied directory elsewhere, to write in", false, func() object {
			r := mounted("/etc/hosts", "bind", "source", mount("/x/serviceaccount", "bind")["source"])
			r["OCI"].(object)["Mounts"].([]any)[0].(object)["options"] = []string{"rbind"}
			return r
		}()},
		{"a file to write", true, mounted("/etc/hosts", "bind", "options", []string{"bind", "rw"})},
		{"shared memory elsewhere", false, mounted("/etc/hosts", "bind", "source", "/run/kata-containers/sandbox/shm")},
		{"a bind mount that is called tmpfs", false, mounted("/run", "tmpfs", "options", []string{"nosuid", "rbind"})},
		{"a bind mount that is called proc", false, mounted("/proc", "proc", "options", []string{"bind"})},
		{"shared mounts", false, change(func(r object) { r["shared_mounts"] = []any{object{"name": "x"}} })},
		{"hooks that stay on the host", true, change(func(r object) {
			r["OCI"].(object)["Hooks"] = object{"StartContainer": []any{}, "Poststop": []any{}}
		})},
		{"a hook in the guest", false, change(func(r object) {
			r["OCI"].(object)["Hooks"] = object{"Poststop": []any{}, "StartContainer": []any{object{"Path": "/bin/sh"}}}
		})},
		{"namespaces in the Go runtime's words", true, change(func(r object) {
			linux(r)["Namespaces"] = []any{namespace("ipc", ""), namespace("uts", ""), namespace("mount", "")}
		})},
		{"the guest's own mount namespace", false, change(func(r object) {
			linux(r)["Namespaces"] = []any{namespace("ipc", ""), namespace("uts", "")}
		})},
		{"a process's mount namespace", false, change(func(r object) {
			linux(r)["Namespaces"] = []any{namespace("mount", "/proc/1/ns/mnt")}
		})},
		{"two mount namespaces", false, change(func(r object) {
			linux(r)["Namespaces"] = []any{namespace("mount", ""), namespace("mount", "/proc/1/ns/mnt")}
		})},
		{"no namespaces", false, change(func(r object) { r["OCI"].(object)["Linux"] = object{} })},
		{"others' processes", false, change(func(r object) { r["sandbox_pidns"] = true })},
		{"a disk's device node", false, change(func(r object) {
			linux(r)["Devices"] = []any{object{"Path": "/dev/sda", "Type": "b", "Major": 8, "Minor": 0}}
		})},
		{"mounts that propagate", false, change(func(r object) { linux(r)["RootfsPropagation"] = "shared" })},
		{"mapped users", false, change(func(r object) {
			linux(r)["UIDMappings"] = []any{object{"HostID": 0, "ContainerID": 0, "Size": 1}}
		})},
		{"devices", false, change(func(r object) { r["devices"] = []any{object{"id": "x"}} })},
	}
}

// TestCreateContainer asks with every version of Rego for containers of the images and for others.
func TestCreateContainer(t *testing.T) {
	policy, err := expected.Policy(appAndPause())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range createCases(t) {
		for _, version := range []ast.RegoVersion{ast.RegoV0, ast.RegoV1} {
			if got := eval(t, version, policy, "CreateContainerRequest", tt.input); got != tt.allow {
				t.Errorf("%s (Rego %s): allowed is %t", tt.name, version, got)
			}
		}
	}
}

func without(options []string, option string) (kept []string) {
	for _, o := range options {
		if o != option {
			kept = append(kept, o)
		}
	}
	return kept
}

// copied is how the names of files begin that Kata copies into the guest.
var copied = strings.Repeat("0123456789abcdef", 4) + "-fedcba9876543210-"

// copyFile and symlink are what the agent gives the policy of a CopyFileRequest (kata-containers 4.1.0,
// src/agent/policy/src/policy.rs).
func copyFile(fileType, path string) object { return object{"path": path, "file_type": fileType} }

func symlink(path, target string) object {
	return object{"path": path, "file_type": "Symlink", "symlink_target": target}
}

// otherCase is another request, and whether any of our policies is to allow it.
type otherCase struct {
	rule  string
	input any
	allow bool
}

func otherCases() []otherCase {
	sandbox := func(storages ...any) object {
		return object{"hostname": "pod", "dns": []string{}, "sandbox_id": cid, "guest_hook_path": "", "kernel_modules": []any{},
			"sandbox_pidns": false, "storages": append([]any{}, storages...)}
	}
	with := func(o object, key string, value any) object {
		changed := maps.Clone(o)
		changed[key] = value
		return changed
	}
	shm := object{"driver": "ephemeral", "driver_options": []string{}, "source": "shm", "fstype": "tmpfs", "fs_group": nil, "shared": false,
		"options": []string{"noexec", "nosuid", "nodev", "mode=1777", "size=67108864"}, "mount_point": "/run/kata-containers/sandbox/shm"}
	const dir = "/run/kata-containers/shared/containers/"
	return []otherCase{
		{"CopyFileRequest", copyFile("Regular", dir+copied+"resolv.conf"), true},
		{"CopyFileRequest", copyFile("Regular", dir+"passthrough/"+copied+"resolv.conf"), true},
		{"CopyFileRequest", copyFile("Directory", dir+copied+"serviceaccount"), true},
		{"CopyFileRequest", copyFile("Regular", dir+copied+"serviceaccount/..2026_11_21/token"), true},
		{"CopyFileRequest", symlink(dir+copied+"serviceaccount/..data", "..2026_11_21"), true},
		{"CopyFileRequest", symlink(dir+copied+"serviceaccount/token", "..data/token"), true},
		{"CopyFileRequest", object{"path": dir + copied + "resolv.conf"}, false},
		// A container may write in what is mounted in the place of a file.
		{"CopyFileRequest", copyFile("Directory", dir+copied+"hosts"), false},
		{"CopyFileRequest", copyFile("Regular", dir+copied+"hosts/link/bin/sh"), false},
		{"CopyFileRequest", symlink(dir+copied+"hosts/link", "x"), false},
		{"CopyFileRequest", copyFile("Regular", "/etc/passwd"), false},
		{"CopyFileRequest", copyFile("Regular", dir+"../../../etc/passwd"), false},
		{"CopyFileRequest", copyFile("Regular", dir+copied+"x/../passthrough/"+cid+"/rootfs/bin/sh"), false},
		{"CopyFileRequest", copyFile("Regular", mountPoint+"/bin/sh"), false},
		// The agent removes what is there before it writes.
		{"CopyFileRequest", copyFile("Regular", dir+"passthrough/"+cid), false},
		{"CopyFileRequest", copyFile("Regular", dir+"passthrough"), false},
		// Through a link into a root file system, its files could be replaced.
		{"CopyFileRequest", symlink(dir+"x", "passthrough/"+cid+"/rootfs"), false},
		{"CopyFileRequest", symlink(dir+copied+"x", "passthrough/"+cid+"/rootfs"), false},
		{"CopyFileRequest", symlink(dir+copied+"x/y", "../passthrough/"+cid), false},
		{"CopyFileRequest", symlink(dir+copied+"x/y", "/passthrough/"+cid), false},
		{"CopyFileRequest", symlink(dir+"passthrough/"+cid+"/x", "rootfs"), false},
		{"CopyFileRequest", copyFile("Symlink", dir+copied+"x/y"), false},
		{"CopyFileRequest", object{"path": dir + copied + "x/y", "file_type": "Symlink", "symlink_target": nil}, false},
		{"CreateSandboxRequest", sandbox(shm), true},
		{"CreateSandboxRequest", sandbox(), true},
		{"CreateSandboxRequest", with(sandbox(shm), "guest_hook_path", "/run/hooks"), false},
		{"CreateSandboxRequest", with(sandbox(shm), "kernel_modules", []any{object{"name": "x", "parameters": []string{}}}), false},
		{"CreateSandboxRequest", with(sandbox(shm), "sandbox_pidns", true), false},
		{"CreateSandboxRequest", sandbox(with(shm, "driver", "scsi")), false},
		{"CreateSandboxRequest", sandbox(with(shm, "source", "0:1")), false},
		{"CreateSandboxRequest", sandbox(with(shm, "fstype", "ext4")), false},
		{"CreateSandboxRequest", sandbox(with(shm, "mount_point", "/usr/bin")), false},
		{"CreateSandboxRequest", sandbox(with(shm, "options", []string{"size=1", "bind"})), false},
		{"CreateSandboxRequest", sandbox(with(shm, "driver_options", []string{"x"})), false},
		{"CreateSandboxRequest", sandbox(shm, shm), false},
		{"SetPolicyRequest", object{"policy": "x"}, false}, {"ExecProcessRequest", object{}, false},
		{"StartContainerRequest", object{"container_id": cid}, true},
	}
}

func TestOtherRequests(t *testing.T) {
	policy, err := expected.Policy(appAndPause())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range otherCases() {
		for _, version := range []ast.RegoVersion{ast.RegoV0, ast.RegoV1} {
			if got := eval(t, version, policy, tt.rule, tt.input); got != tt.allow {
				t.Errorf("%s %v (Rego %s): allowed is %t", tt.rule, tt.input, version, got)
			}
		}
	}
}

// TestInitData takes the policy through init data, which is a TOML file.
func TestInitData(t *testing.T) {
	m := measurement(1, 2)
	b, err := expected.InitData([]*measure.Measurement{m})
	if err != nil {
		t.Fatal(err)
	}
	data, err := expected.ParseInitData(b)
	if err != nil {
		t.Fatal(err)
	}
	layers, _ := storageOptions(t, m)
	if !eval(t, ast.RegoV0, data[expected.InitDataPolicy], "CreateContainerRequest", request(layers)) {
		t.Errorf("not allowed by %s", b)
	}
	if python, err := exec.LookPath("python3"); err == nil { // another reader of TOML
		cmd := exec.CommandContext(t.Context(), python, "-c", "import sys, tomllib; d = tomllib.load(sys.stdin.buffer); "+
			"print(d['version'], d['algorithm'], len(d['data']['policy.rego']))")
		cmd.Stdin = strings.NewReader(string(b))
		want := fmt.Sprintf("0.1.0 sha256 %d\n", len(data[expected.InitDataPolicy]))
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("%v: %s; want %s", err, out, want)
		}
	}
}
