package driver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"
	"github.com/opencontainers/go-digest"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/test/trap"
)

// storageStep is something that CRI-O does with containers/storage.
type storageStep struct {
	Op        string // pull, run, stop, remove, rmi
	Image     int
	Container string
}

// storageLife is what a process does with containers/storage.
type storageLife struct {
	Root    string
	Options []string
	Steps   []storageStep
	Mend    bool // instead of steps, do what CRI-O does after an unclean stop (internal_repair)
	Empty   bool // and remove the layers that no image has, which containers/storage keeps for a day
}

// storageState is what containers/storage has, after it was mended.
type storageState struct {
	Images     []int
	Containers map[string]int // from the container to its image
	Damaged    string         // what Check still finds
}

const storageLifeName = "driver-test-storage"

func init() {
	reexec.Register(storageLifeName, func() {
		if err := liveWithStorage(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	})
}

func liveWithStorage() error {
	var l storageLife
	if err := json.NewDecoder(os.Stdin).Decode(&l); err != nil {
		return err
	}
	if !l.Mend {
		if err := trap.Arm(false); err != nil {
			return err
		}
	}
	o := storage.StoreOptions{
		GraphRoot: filepath.Join(l.Root, "graph"), RunRoot: filepath.Join(l.Root, "run"), GraphDriverName: driver.Name,
		GraphDriverOptions: l.Options,
	}
	if images := filepath.Join(l.Root, imagesDir); exists(images) {
		o.ImageStore = images
	}
	s, err := storage.GetStore(o)
	if err != nil {
		return err
	}
	if l.Mend {
		return mend(s, l.Empty)
	}
	for i, step := range l.Steps {
		fmt.Println("begin", i)
		if err := step.take(s); err != nil {
			fmt.Printf("failed %d: %v\n", i, err)
			if err := step.take(s); err != nil { // as the kubelet has CRI-O do
				return fmt.Errorf("%+v, once more: %w", step, err)
			}
		}
		fmt.Println("end", i)
	}
	return nil
}

// layerNumbers returns the numbers of the contents of an image's layers, the lowest first: images share some.
func layerNumbers(image int) []int { return []int{0, 1 + image%2, 3 + image} }

const storageImages = contents - 3

func imageName(image int) string { return fmt.Sprintf("image%d", image) }

func (p *storageStep) take(s storage.Store) error {
	switch p.Op {
	case "pull":
		return pullInto(s, p.Image)
	case "run":
		if _, err := s.Container(p.Container); errors.Is(err, storage.ErrContainerUnknown) {
			_, err = s.CreateContainer(p.Container, nil, imageName(p.Image), "", "", nil)
			if err != nil {
				return err
			}
		}
		root, err := s.Mount(p.Container, "")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(root, "written"), []byte(p.Container), 0o600)
	case "stop":
		// A process that was killed while it removed a container may have left its record without a layer.
		_, err := s.Unmount(p.Container, true)
		return unless(err, storage.ErrLayerUnknown)
	case "remove":
		return unless(s.DeleteContainer(p.Container), storage.ErrNotAContainer)
	case "rmi":
		_, err := s.DeleteImage(imageName(p.Image), true)
		return unless(err, storage.ErrNotAnImage)
	}
	return fmt.Errorf("unknown step %q", p.Op)
}

// unless returns an error that is not the one that says that the work was done before.
func unless(err, done error) error {
	if errors.Is(err, done) {
		return nil
	}
	return err
}

// pullInto makes an image, with the layers that are missing, under the names that containers/image gives layers.
func pullInto(s storage.Store, image int) error {
	if s.Exists(imageName(image)) {
		return nil
	}
	chain, parent := "", ""
	for _, n := range layerNumbers(image) {
		tar := content(n)
		chain = digest.FromString(chain + " " + digest.FromBytes(tar).String()).Encoded()
		if !s.Exists(chain) {
			if _, _, err := s.PutLayer(chain, parent, nil, "", false, nil, bytes.NewReader(tar)); err != nil {
				return err
			}
		}
		parent = chain
	}
	_, err := s.CreateImage(imageName(image), nil, parent, "", nil)
	return err
}

// mend has containers/storage find and remove what is damaged, and says what is left.
func mend(s storage.Store, empty bool) error {
	options := storage.CheckMost()
	if empty {
		options.LayerUnreferencedMaximumAge = new(time.Duration)
	}
	report, err := s.Check(options)
	if err != nil {
		return err
	}
	if errs := s.Repair(report, storage.RepairEverything()); len(errs) > 0 {
		return fmt.Errorf("repair: %w", errors.Join(errs...))
	}
	state := storageState{Containers: map[string]int{}}
	if report, err = s.Check(options); err != nil {
		return err
	}
	if len(report.Layers)+len(report.Images)+len(report.Containers) > 0 {
		state.Damaged = fmt.Sprintf("%+v", report)
	}
	for image := range storageImages {
		if s.Exists(imageName(image)) {
			state.Images = append(state.Images, image)
		}
	}
	containers, err := s.Containers()
	if err != nil {
		return err
	}
	for _, c := range containers {
		var image int
		if _, err := fmt.Sscanf(c.ImageID, "image%d", &image); err != nil {
			return err
		}
		state.Containers[c.ID] = image
	}
	return errors.Join(json.NewEncoder(os.Stdout).Encode(state), settle(s))
}
