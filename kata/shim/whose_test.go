package shim

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// intruders are containers whose pod's author would have Kata put them into the VM of another pod, called victim.
var intruders = map[string]struct {
	runtime  string
	id, kind string
	write    func(f *fixture) // over what CRI-O says
	want     string
}{
	"a sandbox says that it is a container": {"Rust", "intruder", containerTypeSandbox, func(f *fixture) {
		f.annotations()[annotationContainerType] = "container"
		f.annotations()[annotationSandboxID] = "victim"
		f.annotate() // a pod's author can compute what the hook would write
	}, "container intruder is a pod's sandbox"},
	"a container names another sandbox as containerd does": {"Golang", "ctr", "container", func(f *fixture) {
		f.annotations()["io.kubernetes.cri.sandbox-id"] = "victim"
	}, "io.kubernetes.cri.sandbox-id=\"victim\" of the pod is not CRI-O's"},
	"a container that is another pod's": {"Rust", "ctr", "container", func(f *fixture) {
		f.annotations()[annotationSandboxID] = "victim"
		f.config["annotations"].(map[string]string)["io.kubernetes.cri.container-type"] = "container"
	}, "io.kubernetes.cri.container-type=\"container\" of the pod is not CRI-O's"},
}

// TestIntruders: what gets to the proxy of a pod is of that pod.
func TestIntruders(t *testing.T) {
	for name, tt := range intruders {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			env := []string{"TESTSHIM_VERSION=Kata Containers containerd shim (" + tt.runtime + "): id: k, version: 4.1.0, c"}
			victim := r.fixture("victim", "victim")
			address := r.mustStart(victim, env...)
			f := newFixture(r, filepath.Join(r.dir, "s"), tt.id, tt.kind, "own", 2)
			if tt.kind == containerTypeSandbox {
				f.annotations()[annotationHostnamePath] = filepath.Join(f.bundle, "hostname") // CRI-O, behind the pod's own
			}
			tt.write(f)
			f.writeConfig()
			if got := r.mustStart(f, env...); got != address {
				t.Fatalf("address is %s, want %s: the attack is none", got, address)
			}
			c := r.connect(address)
			if _, err := c.Create(ctx(t), f.request()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if _, err := os.Stat(filepath.Join(r.peerDir(), "create-"+tt.id+".json")); err == nil {
				t.Error("the create reached the real shim")
			}
			r.shutdown(c, "victim")
		})
	}
}

// TestNoProxyBeforeForeignPods: a pod that Kata's own shim has started gets no container through ours.
func TestNoProxyBeforeForeignPods(t *testing.T) {
	r := newRig(t)
	victim := r.fixture("victim", "victim")
	cmd := exec.Command(filepath.Join(binDir, "containerd-shim-kata-v2"), "-id", victim.id, "start")
	cmd.Dir, cmd.Env = victim.bundle, append(r.env, envRunDir+"="+r.run)
	address, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	f := r.fixture("intruder", "victim")
	if got, err := r.start(f); err == nil || !strings.Contains(err.Error(), "not of a handler of crio-erofs") {
		t.Errorf("%q, %v", got, err)
	}
	c := r.connect(string(address))
	r.shutdown(c, "victim")
	if err := os.Remove(strings.TrimPrefix(string(address), unixScheme)); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

// TestCheckPod has the answers apart from a proxy.
func TestCheckPod(t *testing.T) {
	const bundle = "/run/c/userdata"
	for name, tt := range map[string]struct {
		id          string
		annotations map[string]string
		want        string
	}{
		"the sandbox": {"pod", map[string]string{annotationContainerType: "sandbox", annotationSandboxID: "pod",
			annotationHostnamePath: bundle + "/hostname"}, ""},
		"the sandbox of a CRI-O without that path": {"pod", map[string]string{annotationContainerType: "sandbox",
			annotationSandboxID: "pod"}, ""},
		"a container": {"c", map[string]string{annotationContainerType: "container", annotationSandboxID: "pod",
			annotationHostnamePath: "/etc/hostname"}, ""},
		"the sandbox says that it is a container": {"pod", map[string]string{annotationContainerType: "container",
			annotationSandboxID: "pod", annotationHostnamePath: bundle + "/hostname"}, "is a pod's sandbox, and by"},
		"the sandbox names another": {"pod", map[string]string{annotationContainerType: "sandbox",
			annotationSandboxID: "other"}, "is a pod's sandbox, and by"},
		"another sandbox": {"c", map[string]string{annotationContainerType: "sandbox", annotationSandboxID: "c"},
			"would get into the VM of pod pod"},
		"a container of another pod": {"c", map[string]string{annotationContainerType: "container",
			annotationSandboxID: "other"}, `is of pod "other" and would get into the VM of pod pod`},
		"a container that nothing is said of": {"c", nil, `is of pod "" and would`},
		"a container with the sandbox's id": {"pod", map[string]string{annotationContainerType: "container",
			annotationSandboxID: "pod"}, "would get into the VM"},
		"dockershim's key": {"c", map[string]string{annotationContainerType: "container", annotationSandboxID: "pod",
			"io.kubernetes.sandbox.id": "pod"}, "is not CRI-O's"},
	} {
		err := checkPod("pod", createRequest{id: tt.id, bundle: bundle}, &bundleConfig{Annotations: tt.annotations})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}
