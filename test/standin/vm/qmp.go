package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// qmp talks to QEMU's monitor (QEMU docs/interop/qmp-spec.rst). Commands may be given from several goroutines.
type qmp struct {
	conn net.Conn
	enc  *json.Encoder

	mu      sync.Mutex // guards the rest, and the order of commands
	next    int
	pending map[int]chan qmpMessage
	deleted map[string]chan struct{} // device ids whose DEVICE_DELETED is awaited
	err     error                    // why there are no more answers
}

type qmpMessage struct {
	ID     *int            `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Device string `json:"device"`
	} `json:"data"`
}

// newQMP starts to read messages; the greeting is one of them. Negotiation is the first command.
func newQMP(conn net.Conn) *qmp {
	q := &qmp{conn: conn, enc: json.NewEncoder(conn), pending: map[int]chan qmpMessage{},
		deleted: map[string]chan struct{}{}}
	go q.read()
	return q
}

func (q *qmp) read() {
	dec := json.NewDecoder(q.conn)
	for {
		var m qmpMessage
		if err := dec.Decode(&m); err != nil {
			q.fail(fmt.Errorf("%w: its monitor: %w", ErrGone, err))
			return
		}
		q.dispatch(m)
	}
}

func (q *qmp) dispatch(m qmpMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if m.ID != nil && q.pending[*m.ID] != nil {
		q.pending[*m.ID] <- m
		delete(q.pending, *m.ID)
	}
	if m.Event == "DEVICE_DELETED" && q.deleted[m.Data.Device] != nil {
		close(q.deleted[m.Data.Device])
		delete(q.deleted, m.Data.Device)
	}
}

func (q *qmp) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	for id, ch := range q.pending {
		close(ch)
		delete(q.pending, id)
	}
	for id, ch := range q.deleted {
		close(ch)
		delete(q.deleted, id)
	}
}

// run executes a command and waits for its result.
func (q *qmp) run(command string, arguments any) error {
	answer, err := q.send(command, arguments)
	if err != nil {
		return err
	}
	m, ok := <-answer
	if !ok {
		return fmt.Errorf("QMP %s: %w", command, q.failure())
	}
	if m.Error != nil {
		return fmt.Errorf("QMP %s: %s", command, m.Error.Desc)
	}
	return nil
}

func (q *qmp) send(command string, arguments any) (<-chan qmpMessage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return nil, q.err
	}
	q.next++
	answer := make(chan qmpMessage, 1)
	q.pending[q.next] = answer
	message := map[string]any{"execute": command, "id": q.next}
	if arguments != nil {
		message["arguments"] = arguments
	}
	if err := q.enc.Encode(message); err != nil {
		delete(q.pending, q.next)
		return nil, fmt.Errorf("QMP %s: %w", command, err)
	}
	return answer, nil
}

// expectDeletion returns a channel that is closed when the device is gone or QEMU is.
func (q *qmp) expectDeletion(device string) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	ch := make(chan struct{})
	if q.err != nil {
		close(ch)
		return ch
	}
	q.deleted[device] = ch
	return ch
}

func (q *qmp) failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		return errors.New("no answer")
	}
	return q.err
}
