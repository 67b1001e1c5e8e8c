// Package reference is the planner written down as dumbly as possible: the
// oracle that the fast one is tested against.
//
// It is deliberately slow and literal. Everything is sorted, nothing is selected,
// cached or left out, and each step is the sentence that it implements, so that a
// reader can hold the code against the text and see that they agree. Do not make
// it faster.
//
// There are two oracles, each in a file of its own: [Seed] is the trim algorithm
// of the document that this project grew from, [Rules] is the rules of planning
// in the project's design.
//
// The package imports the standard library alone, and not the manager either,
// since the manager's tests import it.
package reference
