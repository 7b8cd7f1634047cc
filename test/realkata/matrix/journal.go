package matrix

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
)

// journalSocket is where runtime-rs sends its log, and to nowhere else (kata-containers 4.1.0,
// src/runtime-rs/crates/shim/src/logger.rs); systemd-journald listens there, if there is one.
const journalSocket = "/run/systemd/journal/socket"

// keepJournal writes to the file path what runtime-rs says, unless the machine has a journal of its own.
func keepJournal(path string) (stop func(), err error) {
	nothing := func() {}
	if _, err := os.Stat(journalSocket); !errors.Is(err, fs.ErrNotExist) {
		logrus.Infof("Kata's log is in the machine's journal: journalctl -t kata-runtime")
		return nothing, err
	}
	if err := os.MkdirAll(filepath.Dir(journalSocket), 0o755); err != nil {
		return nothing, err
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nothing, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: journalSocket, Net: "unixgram"})
	if err != nil {
		return nothing, errors.Join(err, log.Close())
	}
	go func() {
		defer log.Close()
		b := make([]byte, 1<<20)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return // closed
			}
			if _, err := log.WriteString(journalLine(string(b[:n]))); err != nil {
				return
			}
		}
	}()
	return func() { conn.Close() }, nil
}

// journalLine makes a line of a journal entry's fields, the message first.
func journalLine(entry string) string {
	var message string
	var rest []string
	for line := range strings.Lines(strings.TrimSpace(entry)) {
		line = strings.TrimSuffix(line, "\n")
		if m, ok := strings.CutPrefix(line, "MESSAGE="); ok {
			message = m
		} else {
			rest = append(rest, line)
		}
	}
	return message + " " + strings.Join(rest, " ") + "\n"
}
