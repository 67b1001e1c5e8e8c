package journal

import (
	"context"
	"time"
)

// Done is closed when the journal's goroutine has ended.
func (j *Journal) Done() <-chan struct{} { return j.done }

// SetPatience says how long a reader may take for what is written at once. No stream may
// be open.
func (j *Journal) SetPatience(d time.Duration) { j.patient = d }

// Discard reads the next events as Serve does, makes their frames, and writes them
// nowhere.
func (s *Stream) Discard(ctx context.Context) (events int, err error) {
	list, err := s.next(ctx, nil, nil)
	for _, e := range list {
		s.j.frame(e)
	}
	return len(list), err
}
