// Package browsertest tests the page of connmgrhttp in a real browser, with a real libp2p
// node behind it. There is nothing but tests in it.
//
// They need Chromium (on Debian: apt-get install chromium) and are skipped without one,
// unless BROWSERTEST=required is in the environment. One of them takes the pictures of
// the documentation, if BROWSERTEST_PICTURES says where to put them.
package browsertest
