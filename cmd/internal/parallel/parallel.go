// Package parallel does the same for many, a few at a time.
package parallel

import (
	"errors"
	"sync"
)

// Each calls f for 0 to n-1, sixteen at a time, and returns all errors.
func Each(n int, f func(i int) error) error {
	errs := make([]error, n)
	slots := make(chan struct{}, 16)
	var all sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			errs[i] = f(i)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
