// Package connmgrlibp2p puts connmgr in the place of go-libp2p's BasicConnMgr:
//
//	cm, err := connmgrlibp2p.NewConnManager(100, 400)
//	host, err := libp2p.New(libp2p.ConnectionManager(cm))
//
// The names and signatures are those of go-libp2p's package connmgr (but for
// NewDecayer, which that package calls itself), so changing the import is enough.
// docs/migration.md says what behaves differently.
package connmgrlibp2p
