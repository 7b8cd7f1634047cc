package crio_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"gopkg.in/yaml.v3"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/crio-erofs/crio-erofs/test/crio"
	"github.com/crio-erofs/crio-erofs/test/env"
)

// daemonSet is what the test takes from contrib/kubernetes/daemonset.yaml and uninstall.yaml, which test/manifests checks
// as a whole.
type daemonSet struct {
	Kind string
	Spec struct {
		Template struct {
			Spec struct {
				Containers []struct {
					Args           []string
					ReadinessProbe struct {
						Exec struct{ Command []string }
					} `yaml:"readinessProbe"`
					SecurityContext struct {
						ReadOnly     bool  `yaml:"readOnlyRootFilesystem"`
						RunAsUser    int64 `yaml:"runAsUser"`
						Capabilities struct{ Drop []string }
					} `yaml:"securityContext"`
					VolumeMounts []struct {
						Name      string
						MountPath string `yaml:"mountPath"`
					} `yaml:"volumeMounts"`
				}
				Volumes []struct {
					Name     string
					HostPath struct{ Path string } `yaml:"hostPath"`
				}
			}
		}
	}
}

// TestInstaller runs the pods of contrib/kubernetes's DaemonSets in CRI-O, as these say and with no more rights than they
// give, on a directory in place of the node's root.
func TestInstaller(t *testing.T) {
	server := start(t)
	ctx := timeout(t)
	ref := pushInstaller(t)
	must[string](t)(server.PullImage(ctx, ref))
	pod := must[*crio.Pod](t)(server.RunPod(ctx, crio.PodOptions{}))
	root := must[string](t)(env.Root())
	image, node := t.TempDir(), t.TempDir()
	payload := filepath.Join(root, "contrib/kubernetes/node/payload.sh")
	if out, err := exec.Command(payload, image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	install := decodeDaemonSet(t, filepath.Join(root, "contrib/kubernetes/daemonset.yaml"))
	opts := install.container(t, ref, node)
	opts.Mounts = append(opts.Mounts, &cri.Mount{HostPath: filepath.Join(image, "payload"), ContainerPath: "/payload", Readonly: true})
	installer := must[*crio.Container](t)(pod.CreateContainer(ctx, opts))
	if err := installer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	probe := install.Spec.Template.Spec.Containers[0].ReadinessProbe.Exec.Command
	for {
		if r := must[crio.Result](t)(installer.Exec(ctx, probe...)); r.ExitCode == 0 {
			break
		} else if ctx.Err() != nil {
			t.Fatalf("not ready: %s%s", r.Stdout, r.Stderr)
		}
	}
	shim := filepath.Join(node, "usr/local/bin/containerd-shim-kata-erofs-v2")
	if info, err := os.Stat(shim); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the shim on the node: %v %v", info, err)
	}
	if err := installer.Remove(ctx); err != nil {
		t.Fatal(err)
	}

	opts = decodeDaemonSet(t, filepath.Join(root, "contrib/kubernetes/uninstall.yaml")).container(t, ref, node)
	opts.Mounts = append(opts.Mounts, &cri.Mount{HostPath: filepath.Join(image, "payload"), ContainerPath: "/payload", Readonly: true})
	opts.Args = []string{"uninstall", "--programs"}
	_, result, err := pod.Run(ctx, opts)
	if err != nil || result.ExitCode != 0 {
		t.Fatalf("uninstall: %v, %+v", err, result)
	}
	err = filepath.WalkDir(node, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			t.Errorf("uninstall leaves %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func decodeDaemonSet(t *testing.T, path string) daemonSet {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for d := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var set daemonSet
		if err := d.Decode(&set); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if set.Kind == "DaemonSet" {
			return set
		}
	}
}

// container translates the pod's container as the kubelet does, with the host's directories below node. Those are made as
// DirectoryOrCreate says, and /etc/crio as CRI-O's package has it.
func (d daemonSet) container(t *testing.T, ref, node string) crio.ContainerOptions {
	t.Helper()
	spec := d.Spec.Template.Spec
	c := spec.Containers[0]
	if c.SecurityContext.RunAsUser != 0 {
		t.Fatal("the test runs the container as root")
	}
	opts := crio.ContainerOptions{
		Image: ref, Args: c.Args, ReadOnly: c.SecurityContext.ReadOnly, DropCapabilities: c.SecurityContext.Capabilities.Drop,
	}
	for _, v := range spec.Volumes {
		from := filepath.Join(node, v.HostPath.Path)
		if err := os.MkdirAll(from, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, m := range c.VolumeMounts {
			if m.Name == v.Name {
				opts.Mounts = append(opts.Mounts, &cri.Mount{HostPath: from, ContainerPath: m.MountPath})
			}
		}
	}
	return opts
}

// pushInstaller makes an image with the installer alone, and pushes it.
func pushInstaller(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "crio-erofs-installer"),
		"github.com/crio-erofs/crio-erofs/contrib/kubernetes/installer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	archive := filepath.Join(dir, "layer.tar")
	pack := exec.Command("tar", "--create", "--file="+archive, "--directory="+dir, "crio-erofs-installer")
	for _, cmd := range []*exec.Cmd{build, pack} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	layer := must[v1.Layer](t)(tarball.LayerFromFile(archive, tarball.WithMediaType(types.OCILayer)))
	return pushImage(t, "installer", newImage(t, v1.Config{Entrypoint: []string{"/crio-erofs-installer"}}, layer))
}
