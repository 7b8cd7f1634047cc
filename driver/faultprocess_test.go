package driver_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/reexec"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/test/trap"
)

const faultName = "driver-test-faults"

func init() {
	reexec.Register(faultName, func() {
		if err := faultProcess(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	})
}

// act is something that is done again and again, each time with another call of it failing.
type act struct {
	name  string
	setup func(d graphdriver.Driver) error
	do    func(d graphdriver.Driver) error
	check func(d graphdriver.Driver) error // after do without error
	undo  func(d graphdriver.Driver) error // after do, failed or not

	merges  bool // it is about image volumes
	removes bool // if it fails, it may leave something for the next start of the driver, which removes it
}

var acts = []act{
	{
		name:  "pull",
		do:    func(d graphdriver.Driver) error { return (&step{"pull", "pulled", "base", 2}).take(d) },
		check: func(d graphdriver.Driver) error { return hasContent(d, "pulled", 2) },
		undo:  removal("pulled"),
	},
	{
		name:  "start",
		do:    func(d graphdriver.Driver) error { return (&step{"start", "started", "top", 0}).take(d) },
		check: showsImage,
		undo:  removal("started"),
	},
	{
		name:  "start the first container of an image",
		setup: func(d graphdriver.Driver) error { return (&step{"pull", "pulled", "base", 2}).take(d) },
		do:    func(d graphdriver.Driver) error { return (&step{"start", "started", "pulled", 0}).take(d) },
		check: showsMerged,
		undo:  func(d graphdriver.Driver) error { return errors.Join(d.Remove("started"), d.Remove("pulled")) },

		merges: true,
	},
	{
		name:  "stop and remove",
		setup: func(d graphdriver.Driver) error { return (&step{"start", "started", "top", 0}).take(d) },
		do:    func(d graphdriver.Driver) error { return errors.Join(stop(d, "started"), d.Remove("started")) },
		undo:  removal("started"),

		removes: true,
	},
	{
		name:  "remove an image",
		setup: func(d graphdriver.Driver) error { return (&step{"pull", "pulled", "base", 2}).take(d) },
		do:    func(d graphdriver.Driver) error { return d.Remove("pulled") },
		undo:  removal("pulled"),

		removes: true,
	},
	{
		name: "push",
		do:   func(d graphdriver.Driver) error { return readDiff(d, "top", "base") },
	},
}

func removal(id string) func(d graphdriver.Driver) error {
	return func(d graphdriver.Driver) error { return d.Remove(id) }
}

func hasContent(d graphdriver.Driver, id string, n int) error {
	getter, err := d.(graphdriver.DiffGetterDriver).DiffGetter(id)
	if err != nil {
		return err
	}
	return errors.Join(sameFiles(getter, content(n)), getter.Close())
}

func showsImage(d graphdriver.Driver) error {
	b, err := os.ReadFile(filepath.Join(driver.Home(d), "layers/started/merged/shared/1"))
	if err == nil && string(b) != "layer 1" {
		err = fmt.Errorf("reads %q", b)
	}
	return err
}

// showsMerged looks into a container that has an image volume, or else one of what it would be made of.
func showsMerged(d graphdriver.Driver) error {
	merged := filepath.Join(driver.Home(d), "layers/started/merged")
	b, err := os.ReadFile(filepath.Join(merged, "shared/2"))
	if err == nil && string(b) != "layer 2" {
		err = fmt.Errorf("reads %q", b)
	}
	m, readErr := volume.ReadManifest(merged)
	if readErr == nil && (m.Image == nil) == (m.NoImage == "") {
		readErr = fmt.Errorf("the manifest has the image volume %v, and none because of %q", m.Image, m.NoImage)
	}
	return errors.Join(err, readErr)
}

// makesImages says whether a driver makes image volumes of several layers.
func makesImages(d graphdriver.Driver) bool {
	return slices.ContainsFunc(d.Status(), func(s [2]string) bool {
		return s[0] == "Image volumes" && !strings.HasPrefix(s[1], "none")
	})
}

func readDiff(d graphdriver.Driver, id, parent string) error {
	r, err := d.Diff(id, nil, parent, nil, "")
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// faultProcess does everything in acts with each of its calls failing in turn. After each time the store and the
// process have to have what they had before, and an error must have come out, or the work be done all the same.
func faultProcess(root string, options []string) error {
	s := newSabotage(root)
	if err := trap.Arm(true); err != nil {
		return err
	}
	driver.RetryImages(0)
	d, err := openDriver(root, options...)
	if err != nil {
		return err
	}
	for _, step := range []step{{"pull", "base", "", 0}, {"pull", "top", "base", 1}, {"start", "other", "base", 0}} {
		if err := step.take(d); err != nil {
			return err
		}
	}
	var errs []error
	for i := range acts {
		if acts[i].merges && !makesImages(d) {
			continue
		}
		errs = append(errs, acts[i].sweep(s, d, root, options))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(stop(d, "other"), d.Remove("other"), d.Remove("top"), d.Remove("base"), d.Cleanup())
}

// once does the act with its nth call failing.
func (a *act) once(s *sabotage, d graphdriver.Driver, nth int) (call string, failed, err error) {
	if a.setup != nil {
		if err := a.setup(d); err != nil {
			return "", nil, fmt.Errorf("set up: %w", err)
		}
	}
	call, failed, err = s.on(nth, func() error { return a.do(d) })
	if err != nil {
		return call, failed, err
	}
	if failed == nil && a.check != nil {
		if err := a.check(d); err != nil {
			return call, failed, fmt.Errorf("it says that it has done its work, but: %w", err)
		}
	}
	if a.undo != nil {
		if err := a.undo(d); err != nil {
			return call, failed, fmt.Errorf("what is left cannot be removed: %w", err)
		}
	}
	return call, failed, nil
}

func (a *act) sweep(s *sabotage, d graphdriver.Driver, root string, options []string) error {
	if _, _, err := a.once(s, d, 0); err != nil { // so that the first time makes no difference
		return fmt.Errorf("%s: %w", a.name, err)
	}
	before, err := s.belongings()
	if err != nil {
		return err
	}
	reported, tolerated, late, swept := 0, 0, 0, 0
	var bad []string
	for nth := 1; ; nth++ {
		call, failed, err := a.once(s, d, nth)
		if call == "" && err == nil {
			break
		}
		if failed == nil {
			tolerated++
		} else {
			reported++
		}
		left := err
		if err == nil {
			left = sameBelongings(before, s.belongings)
			if left != nil {
				// If it could not see what is in use, it looks again when a container stops.
				late++
				left = errors.Join((&step{"start", "next", "base", 0}).take(d), stop(d, "next"), d.Remove("next"),
					sameBelongings(before, s.belongings))
			}
			if left != nil && failed != nil && a.removes {
				swept++
				_, err := openDriver(root, options...)
				left = errors.Join(err, sameBelongings(before, s.belongings))
			}
		}
		if left != nil {
			bad = append(bad, fmt.Sprintf("%s, call %d (%s), which gave %q: %v", a.name, nth, call, fmt.Sprint(failed), left))
			if len(bad) > 5 {
				break
			}
			if _, err := openDriver(root, options...); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(os.Stderr, "%s: %d faults became errors, %d were tolerated, %d left something for the next stop, "+
		"%d for the next start of the driver\n", a.name, reported, tolerated, late, swept)
	if reported+late == 0 {
		bad = append(bad, "no fault made a difference")
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "\n"))
	}
	return nil
}

// sabotage is saboteur's other end, in the process.
type sabotage struct {
	root    string
	answers *bufio.Scanner
}

func newSabotage(root string) *sabotage {
	answers := bufio.NewScanner(os.Stdin)
	answers.Buffer(nil, 1<<20)
	return &sabotage{root, answers}
}

func (s *sabotage) order(format string, args ...any) (answer string, err error) {
	if _, err := fmt.Printf(format+"\n", args...); err != nil {
		return "", err
	}
	if !s.answers.Scan() {
		return "", errors.Join(errors.New("the test is gone"), s.answers.Err())
	}
	return s.answers.Text(), nil
}

// on runs f and has its nth call fail. It returns that call; empty if f has fewer.
func (s *sabotage) on(nth int, f func() error) (call string, failed, err error) {
	if _, err := s.order("arm %d", nth); err != nil {
		return "", nil, err
	}
	failed = f()
	call, err = s.order("off")
	return call, failed, err
}

// belongings lists what this process has, see there.
func (s *sabotage) belongings() (map[string]int, error) {
	goroutines := runtime.NumGoroutine()
	if err := letGo(); err != nil {
		return nil, err
	}
	answer, err := s.order("look %d", os.Getpid())
	if err != nil {
		return nil, err
	}
	has := map[string]int{}
	if err := json.Unmarshal([]byte(answer), &has); err != nil {
		return nil, fmt.Errorf("%s: %w", answer, err)
	}
	has[goroutinesKey] = goroutines
	return has, nil
}
