package nodestore

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/containers/storage"

	"github.com/crio-erofs/crio-erofs/kata"
)

// Container is a container, or a pod's sandbox, as containers/storage and CRI-O record it.
type Container struct {
	storage.Container
	PodName   string // of Kubernetes
	Namespace string
	Name      string // in its pod; of a sandbox: "POD"
	Sandbox   bool
	Handler   string // the runtime handler of its pod; empty: CRI-O's default
	Mode      string // how the hook gives it its image; empty: not by the hook
	Labels    map[string]string

	// Annotations are those of its OCI configuration.
	Annotations map[string]string
}

// crioMetadata is what CRI-O 1.34 keeps with containers (internal/storage/runtime.go, RuntimeContainerMetadata).
type crioMetadata struct {
	Pod bool `json:"pod"`
}

// Keys of annotations that CRI-O 1.34 gives containers (pkg/annotations/internal.go).
const (
	keySandboxID = "io.kubernetes.cri-o.SandboxID"
	keyHandler   = "io.kubernetes.cri-o.RuntimeHandler"
	keyLabels    = "io.kubernetes.cri-o.Labels"

	// Of the kubelet (staging/src/k8s.io/kubelet/pkg/types/labels.go).
	labelPod       = "io.kubernetes.pod.name"
	labelNamespace = "io.kubernetes.pod.namespace"
	labelContainer = "io.kubernetes.container.name"
)

// readContainers reads both of the files that containers are in (storage v1.58, containers.go, newContainerStore).
func (s *Store) readContainers() error {
	var records []storage.Container
	for _, name := range []string{"containers.json", "volatile-containers.json"} {
		if err := readRecords(s.recordPath("containers", name), &records); err != nil {
			return err
		}
	}
	handlers := map[string]string{} // of sandboxes
	for i := range records {
		c := &Container{Container: records[i]}
		s.readConfig(c)
		s.Containers = append(s.Containers, c)
		if c.Sandbox {
			handlers[c.ID] = c.Annotations[keyHandler]
		}
	}
	for _, c := range s.Containers {
		c.Handler = handlers[c.Annotations[keySandboxID]]
	}
	return nil
}

// readConfig takes from a container's OCI configuration, which CRI-O keeps in its directory, what is known of it. A
// container that is being made has none yet, and other programs' have none there.
func (s *Store) readConfig(c *Container) {
	var metadata crioMetadata
	if json.Unmarshal([]byte(c.Metadata), &metadata) == nil {
		c.Sandbox = metadata.Pod
	}
	var config struct {
		Annotations map[string]string `json:"annotations"`
	}
	b, err := os.ReadFile(s.recordPath("containers", c.ID, "userdata", "config.json"))
	if err != nil || json.Unmarshal(b, &config) != nil {
		return
	}
	c.Annotations, c.Mode = config.Annotations, config.Annotations[kata.AnnotationMode]
	if json.Unmarshal([]byte(c.Annotations[keyLabels]), &c.Labels) == nil {
		c.PodName, c.Namespace, c.Name = c.Labels[labelPod], c.Labels[labelNamespace], c.Labels[labelContainer]
	}
}

// Use says how a container has its image, "image-verity (kata-erofs)".
func (c *Container) Use() string {
	mode, handler := c.Mode, c.Handler
	if mode == "" {
		mode = "host mount"
	}
	if handler == "" {
		handler = "default handler"
	}
	return fmt.Sprintf("%s (%s)", mode, handler)
}

// Title returns what people call a container: its name in its pod, or the one that CRI-O gave it.
func (c *Container) Title() string {
	switch {
	case c.Name != "":
		return c.Name
	case len(c.Names) > 0:
		return c.Names[0]
	}
	return ShortID(c.ID)
}
