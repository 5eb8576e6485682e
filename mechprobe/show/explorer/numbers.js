// Numbers as the page writes them.

function percent(share) {
  return `${Math.round(100 * share)}%`;
}

function signed(value) {
  const size = Math.abs(value);
  if (size < 0.0005) return size ? "≈0" : "0";
  const digits = size.toFixed(size >= 100 ? 0 : size >= 0.0995 ? 2 : 3);
  return (value < 0 ? "−" : "+") + digits;
}

function number(value) {
  const size = Math.abs(value);
  if (!size) return "0";
  const digits = size >= 1000 ? size.toFixed(0) : size >= 0.01 ? size.toFixed(3) : String(Number(size.toPrecision(2)));
  return (value < 0 ? "−" : "") + digits;
}

function estimate([value, low, high]) {
  return low === high ? number(value) : `${number(value)} [${number(low)}, ${number(high)}]`;
}
