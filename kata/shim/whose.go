package shim

import (
	"fmt"
	"path/filepath"
)

const (
	// annotationSandboxID is written by CRI-O on every container, on workload containers after the pod's own annotations
	// (cri-o 1.34, internal/factory/container/container.go).
	annotationSandboxID = "io.kubernetes.cri-o.SandboxID"

	// annotationHostnamePath is where CRI-O has made a pod's /etc/hostname: in its sandbox's bundle. Of what CRI-O
	// writes on a sandbox this comes after the pod's own annotations (cri-o 1.34, server/sandbox_run_linux.go).
	annotationHostnamePath = "io.kubernetes.cri-o.HostnamePath"
)

// foreignKeys are by which other engines tell Kata what a container is, and of which pod. CRI-O writes none of them
// and lets a pod's author do so, and Kata's Go runtime takes those of containerd for truer than CRI-O's
// (kata-containers 4.1.0, src/runtime/pkg/oci/utils.go, CRIContainerTypeKeyList and CRISandboxNameKeyList;
// src/libs/kata-types/src/k8s.rs).
var foreignKeys = []string{"io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id",
	"io.kubernetes.docker.type", "io.kubernetes.sandbox.id"}

// checkPod refuses a container that Kata would put into another pod's VM because its pod's author has written over
// what CRI-O says. Kata finds the pod by annotations. CRI-O lets a pod's author change all of them on the sandbox, and
// on other containers those that CRI-O does not know.
//
// What is true are the sandbox's id, with which CRI-O has started the pod's real shim, the container's in the request,
// and that the container with the pod's hostname file in its bundle is a sandbox.
func checkPod(sandbox string, c createRequest, config *bundleConfig) error {
	for _, key := range foreignKeys {
		if value, ok := config.Annotations[key]; ok {
			return fmt.Errorf("annotation or label %s=%.128q of the pod is not CRI-O's, and "+
				"tells Kata of which pod the container is: remove it", key, value)
		}
	}
	saidSandbox, saidPod := config.isSandbox(), config.Annotations[annotationSandboxID]
	hostname := config.Annotations[annotationHostnamePath]
	isSandbox := saidSandbox || hostname != "" && filepath.Dir(hostname) == filepath.Clean(c.bundle)
	switch {
	case isSandbox == saidSandbox && isSandbox == (c.id == sandbox) && saidPod == sandbox:
		return nil
	case isSandbox:
		return fmt.Errorf("container %s is a pod's sandbox, and by %s=%.128q and %s=%.128q it would get into the VM of "+
			"pod %s: remove these annotations from the pod", c.id, annotationContainerType,
			config.Annotations[annotationContainerType], annotationSandboxID, saidPod, sandbox)
	}
	return fmt.Errorf("container %s is of pod %.128q and would get into the VM of pod %s: delete its pod", c.id, saidPod,
		sandbox)
}
