/** @file The report's style sheet. */
import { Markup } from './markup.ts';

export const style = new Markup(`
:root {
  --page: #f6f7f9; --card: #ffffff; --text: #1b2430; --faint: #687386; --line: #dfe3ea;
  --student: #2f6fdb; --teacher: #b7791f; --baseline: #7a5bc0; --other: #8b96a8; --good: #2c8a57; --bad: #c44a3d;
  --mark: #e3f4ea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1b212a; --text: #e7ebf1; --faint: #97a3b5; --line: #323b48;
    --student: #6ba1ff; --teacher: #e0ab55; --baseline: #b39bf0; --other: #7d8899; --good: #5cc28a; --bad: #ef7f72;
    --mark: #1f3a2c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header, main, footer { max-width: 840px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 32px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 12px; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 20px 0 8px; }
h4 { font-size: .85rem; margin: 0 0 4px; font-weight: 600; color: var(--faint); }
.facts { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0 0 20px; color: var(--faint); font-size: .9rem; }
.facts div { display: flex; gap: 6px; } .facts dt::after { content: ":"; } .facts dd { margin: 0; color: var(--text); overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin-bottom: 16px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; display: flex; flex-direction: column; }
.tile b { font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; } .tile span { font-size: .9rem; } .tile small { color: var(--faint); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px; margin: 0 0 16px; }
figure { margin: 0 0 8px; } svg { display: block; width: 100%; height: auto; }
.narrow { display: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { color: var(--faint); font-weight: 500; } th:first-child { text-align: left; } tbody th { font-weight: 500; }
tbody th, thead th:first-child { position: sticky; left: 0; background: var(--card); }
tbody tr:last-child > * { border-bottom: 0; }
.note { color: var(--faint); font-size: .9rem; margin: 0 0 12px; } .scroll + .note { margin: 12px 0 0; }
.legend { display: flex; flex-wrap: wrap; gap: 16px; margin: 0 0 8px; font-size: .85rem; color: var(--faint); }
.legend span::before { content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; background: currentColor; }
.legend .student::before { background: var(--student); } .legend .teacher::before { background: var(--teacher); }
.legend .baseline::before { background: var(--baseline); } .legend .other::before { background: var(--other); }
details { border-top: 1px solid var(--line); padding: 8px 0; }
summary { cursor: pointer; overflow-wrap: anywhere; } .delta { color: var(--faint); font-size: .85rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; padding: 10px 0; font-size: .85rem; }
.sides ol { margin: 0; padding-left: 20px; } .sides li { margin-bottom: 6px; overflow-wrap: anywhere; }
.relevant { background: var(--mark); border-radius: 4px; } .relevant::marker { color: var(--good); font-weight: 700; }
ul { margin: 0; padding-left: 20px; }
footer { color: var(--faint); font-size: .8rem; padding: 8px 20px 40px; }
@media (max-width: 620px) {
  header, main { padding-left: 12px; padding-right: 12px; } section { padding: 14px; }
  .wide { display: none; } .narrow { display: block; } .sides { grid-template-columns: 1fr; }
  tbody th { max-width: 150px; white-space: normal; } .tiles { grid-template-columns: 1fr 1fr; } .tile b { font-size: 1.3rem; }
}
@media print { details > * { display: block; } section { break-inside: avoid; } }
`);
