package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// drainTime is how long output is still read after a process has ended, for what its children hold open.
const drainTime = time.Second

// process is a process of a container.
type process struct {
	cmd     *exec.Cmd
	control *os.File // to the child before it becomes the program, see child.go

	mu     sync.Mutex // guards stdin
	stdin  *os.File
	stdout *os.File // the terminal if there is one
	stderr *os.File

	exited   chan struct{} // closed when the rest is set
	status   uint32
	exitedAt time.Time
}

// prepared is a process whose files exist but which is not yet running.
type prepared struct {
	*process
	theirs []*os.File // the child's ends, to be closed here
}

// prepare makes the pipes or the terminal, and the command that becomes the process: this program again.
func prepare(p *specs.Process) (*prepared, error) {
	out := &prepared{process: &process{exited: make(chan struct{})}}
	out.cmd = &exec.Cmd{Path: "/proc/self/exe", Args: []string{ChildName}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	err := out.openStreams(p)
	if err == nil {
		err = out.openControl()
	}
	if err != nil {
		out.closeAll()
		return nil, err
	}
	return out, nil
}

func (p *prepared) openStreams(spec *specs.Process) error {
	if spec.Terminal {
		return p.openTerminal(spec.ConsoleSize)
	}
	in, inTheirs, err := pipe(true)
	if err != nil {
		return err
	}
	p.stdin, p.theirs = in, append(p.theirs, inTheirs)
	out, outTheirs, err := pipe(false)
	if err != nil {
		return err
	}
	p.stdout, p.theirs = out, append(p.theirs, outTheirs)
	errOut, errTheirs, err := pipe(false)
	if err != nil {
		return err
	}
	p.stderr, p.theirs = errOut, append(p.theirs, errTheirs)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = inTheirs, outTheirs, errTheirs
	return nil
}

// pipe returns our end and theirs; we write if toChild.
func pipe(toChild bool) (ours, theirs *os.File, err error) {
	r, w, err := os.Pipe()
	if toChild {
		return w, r, err
	}
	return r, w, err
}

func (p *prepared) openTerminal(size *specs.Box) error {
	master, slave, err := pty.Open()
	if err != nil {
		return fmt.Errorf("open a terminal: %w", err)
	}
	p.stdin, p.stdout, p.theirs = master, master, append(p.theirs, slave)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr.Setctty = true
	if size != nil && size.Height > 0 && size.Width > 0 {
		return pty.Setsize(master, &pty.Winsize{Rows: uint16(size.Height), Cols: uint16(size.Width)})
	}
	return nil
}

func (p *prepared) openControl() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.control = os.NewFile(uintptr(fds[0]), "control")
	theirs := os.NewFile(uintptr(fds[1]), "control of the child")
	p.theirs = append(p.theirs, theirs)
	p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, theirs)
	return nil
}

func (p *prepared) closeAll() {
	for _, f := range append(p.theirs, p.stdin, p.stdout, p.stderr, p.control) {
		if f != nil {
			f.Close()
		}
	}
}

// start runs the child on this thread, tells it what to become and waits until it is ready.
func (p *prepared) start(cfg *childConfig) (*process, error) {
	if err := p.cmd.Start(); err != nil {
		p.closeAll()
		return nil, err
	}
	for _, f := range p.theirs {
		f.Close()
	}
	go p.process.wait()
	err := json.NewEncoder(p.control).Encode(cfg)
	if err == nil {
		err = p.await(childReady)
	}
	if err != nil {
		p.kill()
		return nil, err
	}
	return p.process, nil
}

// run lets a ready child become the program.
func (p *process) run() error {
	defer p.control.Close()
	if err := json.NewEncoder(p.control).Encode(childMessage{}); err != nil {
		return fmt.Errorf("the process ended before it was started: %w", err)
	}
	return p.await(childGone)
}

// await reads what the child says: that it is ready, why it cannot, or nothing more because it has become the program.
func (p *process) await(want string) error {
	var msg childMessage
	err := json.NewDecoder(p.control).Decode(&msg)
	switch {
	case errors.Is(err, io.EOF) && want == childGone:
		return nil
	case err != nil:
		<-p.exited
		return fmt.Errorf("the process ended with status %d before it ran: %w", p.status, err)
	case msg.Error != "":
		<-p.exited
		return errors.New(msg.Error)
	}
	return nil
}

// wait reaps the process. Output that nobody reads any more must not block its end.
func (p *process) wait() {
	err := p.cmd.Wait()
	p.status = exitStatus(p.cmd.ProcessState, err)
	p.exitedAt = time.Now()
	deadline := time.Now().Add(drainTime)
	for _, f := range []*os.File{p.stdout, p.stderr} {
		if f != nil {
			f.SetReadDeadline(deadline)
		}
	}
	close(p.exited)
}

func exitStatus(state *os.ProcessState, err error) uint32 {
	if state == nil {
		return 255
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok || (err != nil && state.Success()):
		return 255
	case ws.Signaled():
		return 128 + uint32(ws.Signal())
	}
	return uint32(ws.ExitStatus())
}

// kill ends the process and waits for that.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.exited
	p.close()
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) close() {
	p.closeStdin()
	for _, f := range []*os.File{p.stdout, p.stderr, p.control} {
		if f != nil {
			f.Close()
		}
	}
}

// closeStdin ends the input. A terminal has no end of its own.
func (p *process) closeStdin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stdin != nil && p.stdin != p.stdout {
		p.stdin.Close()
		p.stdin = nil
	}
}

func (p *process) write(data []byte) error {
	p.mu.Lock()
	stdin := p.stdin
	p.mu.Unlock()
	if stdin == nil {
		return os.ErrClosed
	}
	_, err := stdin.Write(data)
	return err
}

// read returns at least one byte or io.EOF. A terminal says EIO when the last process has closed it.
func read(f *os.File, n int) ([]byte, error) {
	if f == nil {
		return nil, io.EOF
	}
	buf := make([]byte, n)
	n, err := f.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// The process ended a while ago (see wait) and something still has the pipe open. What is in it counts, what
		// may come does not.
		f.SetReadDeadline(time.Now().Add(drainTime / 10))
		n, err = f.Read(buf)
	}
	if n > 0 {
		return buf[:n], nil
	}
	if errors.Is(err, unix.EIO) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	return nil, err
}
