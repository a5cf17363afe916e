import { search } from '/tmp/wt/fix/evaluation/index.ts';
import { crossEncoder, Encoder } from '/tmp/wt/fix/index.ts';

const documents = ['Crops and resizes photos', 'Installs and removes packages', 'Plays music'];
const query = 'edit an image';

// comparable: vectors whose dot product is the model's similarity
const encoder = await Encoder.load('/tmp/wt/fix/test/docs/readme-gm6lRA/runs/student/checkpoint', { comparable: true });
const vectors = await encoder.encode(documents, { role: 'document' }); // [3, dimensions], row-major
const found = await search(await encoder.encode([query], { role: 'query' }), vectors, encoder.dimensions, 2);
await encoder.dispose();

const teacher = await crossEncoder('/tmp/wt/fix/test/docs/readme-gm6lRA/models/cross-encoder');
const pairs = Array.from(found.indices, (i) => ({ queryId: 'q', query, documentId: `d${i}`, document: documents[i] }));
const scores = await teacher.score(pairs); // one logit per pair; ids are for messages
await teacher.dispose();
console.log(pairs, found.scores, scores);
