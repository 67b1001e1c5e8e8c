// This file asks again and again, seldom while nobody looks, and never twice at a time.

// poll calls run every `every` milliseconds, every `hidden` while the page is not seen,
// and at once when it is seen again. run may fail: that is its own matter. The returned
// function calls it soon: not before `least` milliseconds after the last call ended.
export function poll(run, { every, hidden = 30_000, least = 0 }) {
  let timer;
  let running = false;
  let again = false;
  let ended = -Infinity;

  async function now() {
    clearTimeout(timer);
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await run();
    } catch (e) {
      console.warn(e);
    }
    running = false;
    ended = performance.now();
    const soon = again;
    again = false;
    plan(soon ? least : document.hidden ? hidden : every);
  }

  function plan(milliseconds) {
    clearTimeout(timer);
    timer = setTimeout(now, milliseconds);
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) now();
  });
  now();
  return () => {
    const wait = ended + least - performance.now();
    if (running || wait <= 0) now();
    else plan(wait);
  };
}

// debounce returns a function that calls f once, `milliseconds` after the first of many
// calls: what comes without end is still answered.
export function debounce(f, milliseconds) {
  let timer = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      f();
    }, milliseconds);
  };
}
