package connmgrlibp2p

import (
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/dep2p/connmgr"
	libp2p "github.com/libp2p/go-libp2p/core/connmgr"
)

// This file makes go-libp2p's preset DecayExpireWhenInactive do what it promises.
// The preset is part of go-libp2p's interface package, so programs go on using it
// after they have changed their import.
//
// It expires a tag when the time *until* the last visit is long enough. That
// moment lies in the past, so it never is; and as long as the tag is kept, the
// preset sets its value to 0.

// isBrokenExpiry reports whether a function is that preset, with that defect. The
// name says which functions to try; the trial says whether go-libp2p has mended
// it. (Other functions are not tried: they may count their calls.)
func isBrokenExpiry(decay libp2p.DecayFn) bool {
	f := runtime.FuncForPC(reflect.ValueOf(decay).Pointer())
	// Inlined, the name is that of the caller with this in it.
	if f == nil || !strings.Contains(f.Name(), "DecayExpireWhenInactive") {
		return false
	}
	const ages = 100 * 365 * 24 * time.Hour
	_, expiresInTheFuture := decay(libp2p.DecayingValue{LastVisit: time.Now().Add(ages)})
	_, expiresInThePast := decay(libp2p.DecayingValue{LastVisit: time.Now().Add(-ages)})
	return expiresInTheFuture && !expiresInThePast
}

// mendExpiry asks the preset about a last visit as far in the future as the last
// bump lies in the past, which is the question that it answers, and keeps the
// value of a tag that stays.
func mendExpiry(decay libp2p.DecayFn, t *decayingTag) connmgr.DecayFunc {
	return func(v connmgr.DecayingValue) (int, bool) {
		value := t.value(v)
		// The preset looks at the system's clock a little later than we do here.
		const slack = time.Millisecond
		value.LastVisit = time.Now().Add(v.Now.Sub(v.LastBump) + slack)
		_, remove := decay(value)
		return v.Value, remove
	}
}
