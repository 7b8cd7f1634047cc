package outerinit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/crio-erofs/crio-erofs/test/realkata/outer"
	"github.com/crio-erofs/crio-erofs/test/standin/agent"
)

// Serve runs commands until the VM is ended.
func Serve() error {
	port, err := agent.OpenPort(outer.PortName)
	for err != nil { // nobody has connected yet
		fmt.Fprintln(os.Stderr, "outer-init:", err)
		port, err = agent.OpenPort(outer.PortName)
	}
	requests, replies := json.NewDecoder(patient{port}), &replier{encoder: json.NewEncoder(port)}
	for {
		var r outer.Request
		if err := requests.Decode(&r); err != nil {
			return fmt.Errorf("read a command: %w", err)
		}
		replies.send(run(r, replies))
	}
}

// patient reads on behind the end: that is where one client hangs up, and the next goes on. The port stays open, as
// closing it drops what the next one may have sent already (Linux drivers/char/virtio_console.c, port_fops_release).
type patient struct{ port *os.File }

// Read implements io.Reader.
func (p patient) Read(b []byte) (int, error) {
	for {
		n, err := p.port.Read(b)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// run runs a command and returns its last reply.
func run(r outer.Request, replies *replier) outer.Reply {
	if len(r.Args) == 0 {
		return outer.Reply{Error: "no command"}
	}
	os.Clearenv() // exec.Command looks in our own PATH
	for _, v := range r.Env {
		setenv(v)
	}
	cmd := exec.Command(r.Args[0], r.Args[1:]...)
	cmd.Dir = r.Dir
	cmd.Stdout = writer(func(b []byte) { replies.send(outer.Reply{Stdout: b}) })
	cmd.Stderr = writer(func(b []byte) { replies.send(outer.Reply{Stderr: b}) })
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return outer.Reply{Error: err.Error()}
	}
	code := cmd.ProcessState.ExitCode()
	return outer.Reply{Exit: &code}
}

func setenv(v string) {
	for i := range v {
		if v[i] == '=' {
			os.Setenv(v[:i], v[i+1:])
			return
		}
	}
}

// replier sends one reply at a time. When nobody listens any more, replies are lost and commands go on.
type replier struct {
	sync.Mutex
	encoder *json.Encoder
}

func (r *replier) send(reply outer.Reply) {
	r.Lock()
	defer r.Unlock()
	_ = r.encoder.Encode(reply)
}

// writer is an io.Writer that never fails.
type writer func([]byte)

// Write implements io.Writer.
func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}
