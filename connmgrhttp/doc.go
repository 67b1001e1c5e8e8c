// Package connmgrhttp shows a manager and lets it be changed over HTTP: a JSON API and a
// web page on top of it, both served by one handler.
//
//	h, err := connmgrhttp.Handler(manager, manager.Gater(), connmgrhttp.Config{})
//	…
//	http.ListenAndServe("127.0.0.1:7654", h)
//
// Then the page is at http://127.0.0.1:7654/, the API below /v1/, and its description at
// /v1/openapi.json. The documents are those of package api. The handler can also be
// mounted below a path of a server that exists, behind http.StripPrefix.
//
// It is safe to leave on. A request is served if it came in over loopback or a unix
// socket, or else if it has the token of [Config]; if it names this machine, or a name of
// Config.Hosts, as the host it is for; and, to change something, if no page of another
// site made a browser send it. What is read and sent is bounded, and so is the work that
// requests make: what a trim would do is worked out at most once a second, however many
// ask. [Listen] and [Serve] listen and serve by the same rules.
package connmgrhttp
