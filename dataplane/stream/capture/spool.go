package capture

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/wav"
)

const (
	partSize = objectstore.PartSize
	// frame is one sample of both channels.
	frame = 4
	// leastCharge is what a capture counts for at least, so that small ones are bounded too.
	leastCharge = 64 << 10
	// written at once.
	spoolBuffer = 8 << 10
	segmentExt  = ".part"
)

// Errors that end a capture before its call.
var (
	errSpoolFull = errors.New(
		"the spool has no room: what was to go to buckets fills it (--max-capture-bytes), a tenant half of it at most",
	)
	errTooLong = fmt.Errorf("the capture is longer than %d parts", objectstore.MaxParts)
)

// spoolBudget is bytes on the disk.
type spoolBudget struct {
	mu    sync.Mutex
	most  int64
	used  int64
	users map[string]int64 // by tenant
}

// newBudget returns a budget of most bytes on disk for all captures of the pod.
func newBudget(most int64) *spoolBudget { return &spoolBudget{most: most, users: map[string]int64{}} }

// take n bytes for a tenant; false if there is no room.
func (b *spoolBudget) take(tenant string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.most || b.users[tenant]+n > (b.most+1)/2 {
		return false
	}
	b.add(tenant, n)
	return true
}

// occupy takes what is there already, whether there is room or not.
func (b *spoolBudget) occupy(tenant string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(tenant, n)
}

// give returns bytes of a tenant to the budget.
func (b *spoolBudget) give(tenant string, n int64) { b.occupy(tenant, -n) }

func (b *spoolBudget) add(tenant string, n int64) {
	b.used += n
	if b.users[tenant] += n; b.users[tenant] == 0 {
		delete(b.users, tenant)
	}
}

// inUse returns the bytes that captures have on disk.
func (b *spoolBudget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// spool is a capture's file on disk, in segments of partSize: the upload's parts. The recorder writes it; the sender reads and removes
// the segments that are full. The first stays until the end.
type spool struct {
	dir    string
	tenant string
	budget *spoolBudget

	mu      sync.Mutex
	file    *os.File
	out     *bufio.Writer
	number  int   // of the segment that is written; 0 before the first
	size    int64 // of it
	charged int64
}

// segment returns the path of a segment. Names sort in the order of the numbers.
func (s *spool) segment(number int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%05d%s", number, segmentExt))
}

// charge counts bytes that are to be written.
func (s *spool) charge(n int64) bool {
	if !s.budget.take(s.tenant, n) {
		return false
	}
	s.charged += n
	return true
}

// Write appends to the file.
func (s *spool) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 && err == nil {
		if s.file == nil || s.size == partSize {
			if err := s.next(); err != nil {
				return n, err
			}
		}
		piece := p[:min(int64(len(p)), partSize-s.size)]
		if over := s.size + int64(s.number-1)*partSize + int64(len(piece)) - leastCharge; over > 0 &&
			!s.charge(min(over, int64(len(piece)))) {
			return n, errSpoolFull
		}
		var m int
		m, err = s.out.Write(piece)
		n += m
		s.size += int64(m)
		p = p[m:]
	}
	return n, err
}

// next begins a segment.
func (s *spool) next() error {
	if err := s.finishFile(); err != nil {
		return err
	}
	if s.number == objectstore.MaxParts {
		return errTooLong
	}
	file, err := os.OpenFile(s.segment(s.number+1), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s.file = file
	s.size = 0
	s.number++
	if s.out == nil {
		s.out = bufio.NewWriterSize(nil, spoolBuffer)
	}
	s.out.Reset(file)
	return nil
}

// finishFile flushes and closes the current segment. It does nothing if none is open.
func (s *spool) finishFile() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.out.Flush(), s.file.Close())
	s.file = nil
	return err
}

// flush hands what was written to the system: this process may then end.
func (s *spool) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	return s.out.Flush()
}

// full is how many segments are, all but the last, which may still grow.
func (s *spool) full() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.number-1, 0)
}

// close ends the writing. What a full disk did not take is left out, whole samples alone stay.
func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.finishFile() // the size tells how much of it there is
	s.out = nil
}

// trim leaves whole samples in the last segment, and returns its size.
func (s *spool) trim(number int) (int64, error) {
	info, err := os.Stat(s.segment(number))
	if err != nil {
		return 0, err
	}
	size := info.Size()
	extra := (size - wav.HeaderSize) % frame // of segments behind the first too: all before are multiples
	if number == 1 && size < wav.HeaderSize {
		extra = size
	}
	if extra != 0 {
		size -= extra
		err = os.Truncate(s.segment(number), size)
	}
	return size, err
}

// putHeader writes the header over the one that the first segment begins with.
func (s *spool) putHeader(h []byte) error {
	file, err := os.OpenFile(s.segment(1), os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(h, 0)
	return errors.Join(err, file.Close())
}

// drop removes a segment.
func (s *spool) drop(number int) {
	info, err := os.Stat(s.segment(number))
	if err != nil || os.Remove(s.segment(number)) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(info.Size(), s.charged-leastCharge)
	s.charged -= n
	s.budget.give(s.tenant, n)
}

// remove all of it.
func (s *spool) remove() error {
	err := os.RemoveAll(s.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget.give(s.tenant, s.charged)
	s.charged = 0
	return err
}

// highest is the number of the last segment on disk; 0 without any.
func (s *spool) highest() (int, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, err
	}
	last := 0
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentExt)
		if n, err := strconv.Atoi(name); ok && err == nil && e.Type().IsRegular() {
			last = max(last, n)
		}
	}
	return last, nil
}

// has tells whether a segment is on disk.
func (s *spool) has(number int) bool {
	info, err := os.Stat(s.segment(number))
	return err == nil && info.Mode().IsRegular()
}
